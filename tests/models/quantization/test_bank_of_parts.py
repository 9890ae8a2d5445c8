"""Biases share the bank of weights in mixed precision, and parts of other libraries have banks: the same bits."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from qsdt_mm.analysis.calls import CallCounter
from qsdt_mm.models.layers import spiking
from qsdt_mm.models.layers.spiking import SpikingMixin
from qsdt_mm.models.quantization import QuantConv2d, QuantLinear
from qsdt_mm.models.quantization.bank import can_tell_hooks, quantized_together

pytestmark = pytest.mark.skipif(not can_tell_hooks(), reason='this torch has no bank of weights')


class Part(SpikingMixin, nn.Sequential):
    """A part of another library: convolutions and a linear layer, all with biases."""


def part(weight_bits):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(8 * 36, 4)
    return Part(*layers, weight_bits=weight_bits).train()


def trained(model, image, dtype):
    """Output, and gradients of the image and all parameters."""
    image = image.clone().requires_grad_()
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        out = model(image)
    out.float().square().sum().backward()
    return [out, image.grad, *(p.grad for p in model.parameters())]


@pytest.mark.parametrize('weight_bits', [4, 32])
@pytest.mark.parametrize('dtype', [None, torch.bfloat16], ids=str)
def test_values_and_gradients_are_those_of_layers_one_by_one(weight_bits, dtype, monkeypatch):
    model, image = part(weight_bits), torch.rand(2, 3, 8, 8) * 3
    plain = copy.deepcopy(model)
    found = trained(model, image, dtype)
    monkeypatch.setattr(spiking, 'quantized_together', lambda module: nullcontext())
    for one, other in zip(found, trained(plain, image, dtype), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other) and one.abs().sum() > 0


def test_casts_are_one_call():
    """None but that of the image, where there were two for each layer."""
    model, image = part(32), torch.rand(2, 3, 8, 8)
    counter = CallCounter()
    with counter, torch.autocast('cpu', torch.bfloat16), counter.as_on_gpu():
        model(image)
    calls = {name: n for name, n, _ in counter.counts().by('operator')}
    assert calls['triton.quantize_many'] == 1 and calls.get('_to_copy', 0) <= 1, calls


@pytest.mark.parametrize('kind', [QuantConv2d, QuantLinear])
def test_a_bias_that_is_changed_or_replaced_meanwhile(kind):
    layer = kind(2, 2, *([1] * (kind is QuantConv2d)), weight_bits=4)
    with torch.autocast('cpu', torch.bfloat16), quantized_together(layer):
        assert layer.compute_bias.dtype == torch.bfloat16
        with torch.no_grad():
            layer.bias.add_(1)
        assert layer.compute_bias is layer.bias
    with torch.autocast('cpu', torch.bfloat16), quantized_together(layer):
        layer.bias = nn.Parameter(torch.ones(2))
        assert layer.compute_bias is layer.bias
    with quantized_together(layer):  # in float32 there is nothing to cast
        assert layer.compute_bias is layer.bias
    layer.bias = None
    with torch.autocast('cpu', torch.bfloat16), quantized_together(layer):
        assert layer.compute_bias is None


def test_hooks_that_change_weights_come_first():
    """In evaluation as in training: only our own hooks, which lay out feature maps, leave weights alone."""
    model, image = part(4), torch.rand(1, 3, 8, 8)
    unit = model[0]
    before = model(image)

    def scale(module, args):
        with torch.no_grad():
            module.synapse.weight.data.mul_(3)

    unit.register_forward_pre_hook(scale)
    expected = copy.deepcopy(model)
    scale(expected[0], None)
    expected[0]._forward_pre_hooks.popitem()
    assert torch.equal(model(image), expected(image)) and not torch.equal(before, expected(image))
