"""Two processes on CPUs train as one with twice the batch."""

import pytest
import torch
import toy_runs as toy
from copies import joined
from torch import nn

from qsdt_mm.engine.cpu_distributed import synchronise

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason='one process per GPU there')

PLAIN = dict(
    train_dataloader__num_workers=0,
    train_dataloader__sampler__shuffle=False,
    train_dataloader__dataset__augment=False,
    train_cfg__max_epochs=1,
    custom_hooks='[]',
)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A spiking network in float64, where rounding flips no spike; no schedule, no noise."""
    text = """model = dict(_delete_=True, type='SpikingToy')
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.1, momentum=0.9))
param_scheduler = []
val_cfg = val_dataloader = val_evaluator = None"""
    return toy.variant(tmp_path_factory.mktemp('config') / 'spiking.py', text)


@pytest.mark.parametrize('synchronised', [True, False], ids=['synchronised', 'fixed statistics'])
def test_two_processes_are_one_with_twice_the_batch(config, synchronised, tmp_path):
    """Three steps on 24 samples: weights equal to 1e-7 of their largest, statistics too."""
    settings = dict(PLAIN, model__norm_eval=not synchronised)
    assert toy.train(tmp_path / 'one', config=config, train_dataloader__batch_size=8, **settings) == 0
    words = [str(config), '--launcher', 'pytorch', '--work-dir', str(tmp_path / 'two')]
    words += toy.options(train_dataloader__batch_size=4, **settings, **(dict(sync_bn='torch') if synchronised else {}))
    joined(lambda: toy.tool('train').main(words), 2, toy.free_port())
    one, two = (toy.state(tmp_path / name / 'epoch_1.pth') for name in ('one', 'two'))
    assert one['meta']['iter'] == two['meta']['iter'] == 3
    assert one['state_dict'].keys() == two['state_dict'].keys()
    for name, value in one['state_dict'].items():
        largest = value.abs().max().item()
        torch.testing.assert_close(two['state_dict'][name], value, rtol=0, atol=1e-7 * largest + 1e-12, msg=name)


def test_accumulated_gradients_are_those_of_a_larger_batch(config, tmp_path):
    settings = dict(PLAIN, model__norm_eval=True)
    assert toy.train(tmp_path / 'one', config=config, train_dataloader__batch_size=8, **settings) == 0
    accumulated = dict(settings, train_dataloader__batch_size=4, optim_wrapper__accumulative_counts=2)
    assert toy.train(tmp_path / 'two', config=config, **accumulated) == 0
    one, two = (toy.state(tmp_path / name / 'epoch_1.pth')['state_dict'] for name in ('one', 'two'))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-7 * value.abs().max().item() + 1e-12, msg=name)


def test_one_process_is_plain_batch_norm():
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(12))
    names, image = list(model.state_dict()), torch.randn(4, 2, 2, 2)
    expected = model(image)
    synced = synchronise(model)
    assert synced is model and list(model.state_dict()) == names
    assert [type(m).__name__ for m in model] == ['Conv2d', 'SyncBatchNorm2d', 'Flatten', 'SyncBatchNorm1d']
    assert torch.equal(model(image), expected)
