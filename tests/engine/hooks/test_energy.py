"""Energy at the end of a training: counted where it can be, and never in the way."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from qsdt_mm import IELIF
from qsdt_mm.engine.hooks import EnergyHook
from qsdt_mm.models import SpikeUnit
from qsdt_mm.models.quantization import QuantConv2d


class Network(nn.Module):
    def __init__(self, synapse):
        super().__init__()
        self.encode, self.unit = SpikeUnit(None, QuantConv2d(3, 2, 1)), SpikeUnit(IELIF(), synapse)

    def test_step(self, batch):
        assert not self.training
        return self.unit(self.encode(torch.stack(batch['inputs'])))


def run(folder, model, length=20):
    item = dict(__len__=lambda self: length, __getitem__=lambda self, i: dict(inputs=torch.ones(3, 4, 4)))
    data = type('Data', (), item)
    warnings = []
    return SimpleNamespace(
        model=model.train(),
        val_loop=1,
        val_dataloader=SimpleNamespace(dataset=data(), collate_fn=None),
        work_dir=str(folder),
        logger=SimpleNamespace(warning=warnings.append),
        warnings=warnings,
    )


def test_a_few_images_are_counted(tmp_path):
    runner = run(tmp_path, Network(QuantConv2d(2, 2, 1)))
    EnergyHook(images=3).after_train(runner)
    found = json.loads((tmp_path / 'energy.json').read_text())
    assert found['images'] == 3 and found['total']['dense_macs'] == 16 * (3 * 2 + 2 * 2)
    assert (tmp_path / 'energy.png').is_file() and runner.model.training


def test_no_image_is_begun_when_time_is_over(tmp_path):
    runner = run(tmp_path, Network(QuantConv2d(2, 2, 1)))
    hook = EnergyHook(images=9, seconds=-1.0)
    hook.after_train(runner)
    assert hook.report.images == 1


def test_what_cannot_be_counted_is_a_warning(tmp_path):
    runner = run(tmp_path, Network(nn.Conv3d(2, 2, 1)))
    EnergyHook().after_train(runner)
    assert len(runner.warnings) == 1 and 'energy was not counted' in runner.warnings[0]
    assert not list(tmp_path.iterdir()) and runner.model.training


@pytest.mark.parametrize('without', ['spikes', 'images'])
def test_nothing_to_count(tmp_path, without):
    runner = run(tmp_path, nn.Linear(2, 2) if without == 'spikes' else Network(QuantConv2d(2, 2, 1)))
    runner.val_loop = None if without == 'images' else 1
    EnergyHook().after_train(runner)
    assert not list(tmp_path.iterdir()) and not runner.warnings


def test_a_disk_that_takes_no_more_is_a_warning(tmp_path):
    runner = run(tmp_path / 'file' / 'run', Network(QuantConv2d(2, 2, 1)))
    (tmp_path / 'file').touch()
    EnergyHook(images=1).after_train(runner)
    assert len(runner.warnings) == 1 and 'energy was not written' in runner.warnings[0]
