"""Against SpikingJelly's integer neuron and count-to-binary layer (Apache-2.0; a development dependency)."""

import warnings

import pytest
import torch

from qsdt_mm import IELIF
from qsdt_mm.inference.slots import slots

with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    layer = pytest.importorskip('spikingjelly.activation_based.layer')
    neuron = pytest.importorskip('spikingjelly.activation_based.neuron')
    surrogate = pytest.importorskip('spikingjelly.activation_based.surrogate')


@pytest.mark.parametrize('max_spike_count', [1, 4, 8])
@pytest.mark.parametrize('time_steps', [1, 3, 6])
@pytest.mark.parametrize('decay', [0.25, 0.5])
def test_integer_neuron(max_spike_count, time_steps, decay):
    """Counts and gradients over time.

    Theirs leaks before it integrates, ``v = decay * h + x`` with ``decay = 1 - 1 / tau``, ours after it fires,
    ``h = decay * (u - n)``: the same sequence. Theirs rounds half to even, ours fires at the half: random inputs do not
    meet it. Theirs has no decay of 1 (tau is finite) and no threshold but 1 in units of the membrane.
    """
    theirs = neuron.ILIFNode(
        tau=1 / (1 - decay), surrogate_function=surrogate.MultiLevelSpikeCount(max_spike_count), step_mode='m'
    )
    ours = IELIF(threshold=1.0, scale=1.0, max_spike_count=max_spike_count, time_steps=time_steps, decay=decay)
    current = (torch.randn(time_steps, 5, 7, dtype=torch.float64) * max_spike_count).requires_grad_()
    weight = torch.randn_like(current)
    expected = theirs(current)
    (wanted,) = torch.autograd.grad((expected * weight).sum(), current)
    count = ours(current.flatten(0, 1)).unflatten(0, (time_steps, -1))
    (gradient,) = torch.autograd.grad((count * weight).sum(), current)
    assert torch.equal(count, expected) and count.max() == max_spike_count
    assert torch.allclose(gradient, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('max_spike_count', [1, 4, 8])
def test_count_to_binary(max_spike_count):
    count = torch.randint(0, max_spike_count + 1, (3, 5, 7)).float()
    theirs = layer.SpikeCountToBinary(max_spike_count).eval()(count).unflatten(0, (3, max_spike_count))
    for d, spikes in enumerate(slots(count, max_spike_count)):
        assert torch.equal(theirs[:, d], spikes)
