"""Classifiers of T frames: integer and spike modes have the same bits, and carry membranes like the trained network."""

import pytest
import torch
from torch import nn
from trained_networks import exact_forms

pytest.importorskip('mmpretrain')

from mmengine.registry import MODELS, DefaultScope  # noqa: E402

from qsdt_mm.analysis.unit_errors import unit_errors  # noqa: E402

ARCH = dict(widths=(4, 8, 8, 16, 16), depths=(0, 1, 0, 1, 0), num_heads=4, layer_scale=0.5)
NEURONS = {
    'IELIF': dict(max_spike_count=4),
    'IELIF, decay': dict(max_spike_count=2, neuron=dict(type='IELIF', decay=0.5)),
    'IELIF, half to even': dict(max_spike_count=3, neuron=dict(type='IELIF', threshold=0.5, rounding='half_even')),
    'LIF': dict(neuron=dict(type='LIF', tau=1.5, threshold=0.5, scale=0.5)),
}


def classifier(neuron, family='qsd', steps=4):
    """A classifier of events whose norms look as after some training."""
    torch.manual_seed(0)
    options = NEURONS[neuron]
    common = dict(time_steps=steps, weight_bits=4, **options)
    head = dict({'neuron': dict(type='IELIF', threshold=0.25, scale=0.25)} | common)
    arch = dict(ARCH, family=family)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=dict(type='SpikeDrivenTransformer', arch=arch, in_channels=2, time_mean=False, **common),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='SpikeLinearClsHead', num_classes=5, in_channels=16, **head),
            )
        )
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.2, 0.4)
    return model.eval()


@pytest.fixture
def frames():
    """Counts of events, ``(N, T, 2, H, W)``."""
    return torch.poisson(torch.full((3, 4, 2, 32, 36), 0.4), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('neuron', NEURONS)
@pytest.mark.parametrize('family', ['qsd', 'espike'])
def test_bits_and_units(neuron, family, frames):
    model = classifier(neuron, family)
    integer, spike, bitwise = exact_forms(model).values()
    with torch.no_grad():
        logits = integer(frames)
        assert logits.shape == (3, 5) and all(torch.equal(logits, form(frames)) for form in (spike, bitwise))
        assert max(unit_errors(model, integer, lambda network: network(frames)).values()) < 1e-4
    # The order of the frames matters, so membranes are carried; the state does not outlast the batch.
    assert not torch.equal(integer(frames.flip(1)), logits)
    assert torch.equal(integer(frames), logits) and torch.equal(spike(frames[1:2]), logits[1:2])
