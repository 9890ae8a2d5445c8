"""Integers and steps of a weight: what layers compute with, from and to float."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qsdt_mm.models.quantization import (
    QuantConv2d,
    QuantConvTranspose2d,
    QuantLinear,
    low_bit,
    quant_range,
    quantize_symmetrically,
)

BITS = [2, 3, 4, 8]
PLAIN = {
    'conv': lambda: nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, dilation=2, groups=2),
    'circular': lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode='circular', bias=False),
    'deconv': lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
    'linear': lambda: nn.Linear(4, 6),
}
OURS = {'conv': QuantConv2d, 'circular': QuantConv2d, 'deconv': QuantConvTranspose2d, 'linear': QuantLinear}


def inputs(kind):
    return torch.randn(2, 4) if kind == 'linear' else torch.randn(2, 4, 9, 7)


@pytest.mark.parametrize('bits', BITS)
@pytest.mark.parametrize('kind', PLAIN)
def test_integers_times_steps_are_the_weight_in_use(kind, bits):
    layer = low_bit(PLAIN[kind](), bits)
    with torch.no_grad():
        layer.quantizer.step.mul_(torch.rand(6) - 0.5)  # of either sign
    found = layer.int_weight()
    low, high = quant_range(bits)
    assert found.integers.dtype is torch.int8 and found.integers.shape == layer.weight.shape and found.bits == bits
    assert low <= found.integers.min() and found.integers.max() <= high
    assert found.step.dtype is torch.float64 and (found.step > 0).all() and found.step.shape == (6,)
    assert found.channel_dim == (kind == 'deconv') and len(found.by_channel) == 6
    assert torch.equal(found.by_channel[2], found.integers.select(found.channel_dim, 2))
    torch.testing.assert_close(found.dequantize(torch.float32), layer.quantized_weight.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize('bits', [*BITS, 32])
@pytest.mark.parametrize('kind', PLAIN)
def test_from_float_and_back(kind, bits):
    plain, values = PLAIN[kind]().double(), inputs(kind).double()
    layer = OURS[kind].from_float(plain, bits)
    assert type(layer) is OURS[kind] and layer.weight_bits == bits and layer.weight.dtype is torch.float64
    assert torch.equal(layer.weight, plain.weight)
    assert (layer.bias is None) == (plain.bias is None)
    fresh = copy.deepcopy(layer)
    fresh.reset_step()
    assert bits == 32 or torch.equal(layer.quantizer.step, fresh.quantizer.step)
    back = layer.to_float()
    assert type(back) is type(plain) and torch.equal(back(values), layer(values))
    assert (bits == 32) == torch.equal(back(values), plain(values))


@settings(max_examples=25, deadline=None)
@given(
    bits=st.sampled_from(BITS),
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    dim=st.integers(0, 1),
    seed=st.integers(0, 999),
)
def test_symmetric_quantization(bits, shape, dim, seed):
    """Each channel's largest weight is met, no weight is off by more than half a step, and zeros stay zeros."""
    torch.manual_seed(seed)
    weight = torch.randn(shape, dtype=torch.float64)
    weight.select(dim, 0).zero_()
    found = quantize_symmetrically(weight, bits, dim)
    _, high = quant_range(bits)
    assert found.by_channel.flatten(1).abs().amax(1)[1:].eq(high).all() and not found.by_channel[0].any()
    error = (found.dequantize() - weight).abs().transpose(0, dim).flatten(1).amax(1)
    assert (error <= found.step / 2 * (1 + 1e-9)).all()


def test_what_is_not_quantized_has_no_integers():
    with pytest.raises(ValueError, match='weight_bits=32 is not allowed: expected 2, 3, 4 or 8'):
        QuantLinear(2, 2, weight_bits=32).int_weight()
    for bits in (32, 5):
        with pytest.raises(ValueError, match=f'weight_bits={bits} is not allowed'):
            quantize_symmetrically(torch.ones(2, 2), bits)
    with pytest.raises(TypeError, match='Conv1d has no low-bit form'):
        low_bit(nn.Conv1d(2, 2, 1), 4)
