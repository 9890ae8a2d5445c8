"""Operator calls of a training step as on a GPU stay where they are: more of them is a step back."""

import pytest
import torch
from toy_runs import ROOT

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.analysis.calls import count_calls
from qsdt_mm.models.backbones.presets import ARCH_ZOO

# At most so many; to be lowered with every cut (docs/en/performance.md has the table).
BACKBONES = {'qsd-15m': 1113, 'e-10m': 1053}
NETWORKS = {'qsd-15m_8xb196_in1k': (1097, 1398e6), 'e-10m_8xb256_in1k': (1055, 1141e6)}


@pytest.mark.parametrize('name', BACKBONES)
def test_backbones_of_small_width(name):
    """As deep as they are, for calls do not depend on widths."""
    widths = [8 if width < ARCH_ZOO[name].widths[3] else 16 for width in ARCH_ZOO[name].widths]
    torch.manual_seed(0)
    model = SpikeDrivenTransformer(dict(preset=name, widths=widths, num_heads=2)).train()
    image = torch.randn(2, 3, 32, 32)
    counts = count_calls(model, lambda: model(image))
    print(f'\n{name}: {counts.calls()}')
    assert counts.calls() <= BACKBONES[name]


@pytest.mark.slow
@pytest.mark.parametrize('config', NETWORKS)
def test_networks(config):
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS

    cfg = Config.fromfile(f'{ROOT}/configs/classification/{config}.py')
    cfg.model.pop('train_cfg', None)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).train()
    image = torch.randn(2, 3, 224, 224)
    counts = count_calls(model, lambda: [model(image, mode='tensor')])
    print(f'\n{config}: {counts.calls()} calls, {counts.bytes() / 1e6:.0f} MB')
    calls, size = NETWORKS[config]
    assert counts.calls() <= calls and counts.bytes() <= 1.001 * size
