"""Weights of many layers in one launch, run by Triton's interpreter, against layers one by one."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from qsdt_mm.models import QuantConv2d, QuantLinear
from qsdt_mm.models.quantization import quant_range
from qsdt_mm.models.quantization.bank import can_tell_hooks, quantized_together
from qsdt_mm.ops import dispatch, weight_bank
from qsdt_mm.ops.compact_saving import compact_saving
from qsdt_mm.ops.holding import holding

BITS = (4, 2, None, 8, 4)
SHAPES = ((5, 3, 3, 3), (2, 600), (3, 2, 1, 1), (4, 1, 3, 3), (2, 1100))  # of one block and of more


def layers(dtype, grad_dtype, seed=0):
    """Weights on and between the boundaries of integers; steps of both signs, zero, and below the floor."""
    source = torch.Generator().manual_seed(seed)
    weights, steps, ranges, grads = [], [], [], []
    for shape, bits in zip(SHAPES, BITS):
        step = (torch.rand(shape[0], generator=source) * 0.4 - 0.2).to(dtype)
        step[0] = 1e-8
        step[-1] = 0 if bits == 2 else step[-1]
        low, high = quant_range(bits) if bits else (0, 0)
        along = step.float().abs().view(-1, *[1] * (len(shape) - 1))
        weight = torch.randn(shape, generator=source) * (high or 1) * along
        halves = torch.randint(2 * low - 2, 2 * high + 3, shape, generator=source) / 2 * along
        weight = torch.where(torch.rand(shape, generator=source) < 0.3, halves, weight).to(dtype)
        weight.view(-1)[-1] = math.nan
        weight.view(-1)[-2] = math.inf
        weights.append(weight)
        steps.append(step if bits else None)
        ranges.append((low, high))
        grads.append(torch.randn(shape, generator=source).to(grad_dtype))
    # As convolutions over channels-last maps give them; with gaps; the transpose of a product.
    grads[0] = grads[0].to(memory_format=torch.channels_last)
    grads[2] = torch.stack([grads[2], grads[2]], -1)[..., 0]
    grads[1] = grads[1].t().contiguous().t()
    return SimpleNamespace(weights=weights, steps=steps, ranges=ranges, grads=grads)


def same(found, expected):
    assert found.dtype == expected.dtype and found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


QUICK = ((torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16))
PAIRS = [
    (dtype, target) if (dtype, target) in QUICK else pytest.param(dtype, target, marks=pytest.mark.slow)
    for dtype in dispatch.DTYPES
    for target in dispatch.DTYPES
]


@pytest.mark.parametrize(('dtype', 'target'), PAIRS)
def test_values_and_gradients(interpreted, dtype, target):
    all_layers = layers(dtype, target)
    arguments = all_layers.weights, all_layers.steps, all_layers.ranges
    found = interpreted.weight_bank.quantize_many(*arguments, target)
    expected = weight_bank.quantize_many(*arguments, target)
    for one, other in zip(weight_bank.parts_of(found, arguments[0]), weight_bank.parts_of(expected, arguments[0])):
        same(one, other)

    needed = [None if step is None else weight for weight, step in zip(*arguments[:2])]
    of_weights, of_steps = interpreted.weight_bank.quantize_many_backward(
        all_layers.grads, needed, *arguments[1:], dtype
    )
    expected_of_weights, expected_of_steps = weight_bank.quantize_many_backward(
        all_layers.grads, needed, *arguments[1:], dtype
    )
    for one, other in zip(of_weights, expected_of_weights):
        same(one, other)
    for weight, step, one, other in zip(*arguments[:2], of_steps, expected_of_steps):
        assert (one is None) == (other is None) == (step is None)
        if step is not None:  # a sum in another order; of channels whose weights are all finite
            finite = weight.flatten(1).isfinite().all(1)
            assert finite.any() and torch.equal(one.isnan(), other.isnan())
            tolerance = dict(rtol=1e-5, atol=1e-5) if dtype is torch.float32 else dict(rtol=0.02, atol=0.05)
            torch.testing.assert_close(one[finite], other[finite], **tolerance)
            assert torch.equal(one[finite & (step == 0)], torch.zeros_like(one[finite & (step == 0)]))


def test_tables_follow_what_moves(interpreted):
    bank = interpreted.weight_bank
    one, other = (layers(torch.float32, torch.float32, seed) for seed in (0, 1))
    bank._tables.clear(), bank.rows_of.cache_clear()
    for each in (one, one, other):
        found = bank.quantize_many(each.weights, each.steps, each.ranges, torch.float32)
        expected = weight_bank.quantize_many(each.weights, each.steps, each.ranges, torch.float32)
        for a, b in zip(weight_bank.parts_of(found, each.weights), weight_bank.parts_of(expected, each.weights)):
            same(a, b)
    assert len(bank._tables) == 4 and bank.rows_of.cache_info().misses == 1


def test_tables_of_a_capture_are_its_own(interpreted):
    """Written by launches, for no copy from the host can be part of a graph; known ones are taken, and all are held."""
    bank, device = interpreted.weight_bank, torch.device('cpu')
    bank._tables.clear()
    known = bank.table((3, 2**40 + 1), device)
    with holding() as held:
        again, other = (bank.held_table(values, device) for values in ((3, 2**40 + 1), (5, 0, -(2**50))))
    assert again is known and other.tolist() == [5, 0, -(2**50)] and other.dtype == torch.int64
    assert held[0] is known and held[1] is other and list(bank._tables) == [((3, 2**40 + 1), device)]
    values = [tuple(range(i, i + 2)) for i in range(2 * bank.MOST_TABLES)]
    for each in values:
        assert bank.table(each, device).tolist() == list(each)
    assert len(bank._tables) == bank.MOST_TABLES and (values[-1], device) in bank._tables


@pytest.mark.skipif(not can_tell_hooks(), reason='this torch has no bank of weights')
@pytest.mark.parametrize('amp', [False, True])
def test_a_network_takes_two_launches(dispatched, monkeypatch, amp):
    """And one more for what is made again in the backward pass; gradients that come in another order are put right."""
    model = nn.Sequential(
        QuantConv2d(3, 8, 3), nn.ReLU(), QuantConv2d(8, 8, 3, groups=8, bias=True), QuantConv2d(8, 4, 1)
    )
    image = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)

    def step():
        model.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=amp), compact_saving(), quantized_together(model):
            out = model(image)
        out.float().square().sum().backward()
        return out, *(p.grad for p in model.parameters())

    found = step()
    of_weights = [name for name in dispatched if name != 'depthwise_weight_grad']
    assert of_weights == ['quantize_many', 'quantize_many', 'quantize_many_backward']
    monkeypatch.setattr(dispatch, 'find', lambda *args: None)
    for one, other in zip(found, step()):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6 * other.abs().max().item())
    head = QuantLinear(4, 2)
    with quantized_together(head):  # a single layer, in evaluation
        assert torch.equal(head.compute_weight, head.quantized_weight)
