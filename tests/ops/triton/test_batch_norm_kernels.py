"""Kernels of batch norm, run by Triton's interpreter, against the plain functions."""

import copy

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from qsdt_mm.models.layers.norms import Residual, fused
from qsdt_mm.models.layers.synapses import BNAndPad
from qsdt_mm.ops import batch_norm, compact_saving, dispatch

# A launch takes the interpreter hundredths of a second: few examples, and a failing one is not made smaller.
PROPERTY = settings(max_examples=8, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))


def random_norms(channels, two, gain):
    modules = [nn.BatchNorm2d(channels, eps=1e-3 * (i + 1), momentum=0.3) for i in range(1 + two)]
    for module in modules:
        for value in (module.weight, module.bias, module.running_mean):
            value.data.normal_()
        module.running_var.uniform_(0.5, 2)
    return batch_norm.Norms(
        *(batch_norm.Norm.of(module) for module in modules),
        *([] if two else [None]),
        torch.randn(channels) if gain else None,
    )


@PROPERTY
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5)).filter(
        lambda s: s[0] * s[2] * s[3] > 1
    ),
    two=st.booleans(),
    gain=st.booleans(),
    follows=st.sampled_from(['nothing', 'keep', 'shortcut', 'both', 'border']),
    channels_last=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
def test_kernels_give_the_plain_values(interpreted, seed, shape, two, gain, follows, channels_last, dtype):
    torch.manual_seed(seed)
    padded = follows == 'border'
    two, gain = two and not padded, gain and not padded
    order = torch.channels_last if channels_last else torch.contiguous_format
    x = (torch.randn(shape) * 2 + torch.randn(shape[1], 1, 1)).to(dtype).contiguous(memory_format=order)
    shortcut = torch.randn(shape).to(dtype) if follows in ('shortcut', 'both') else None
    keep = torch.tensor([0.0, 1.25, 1.25, 0.0])[: shape[0]].view(-1, 1, 1, 1) if follows in ('keep', 'both') else None
    norms = random_norms(shape[1], two, gain)
    twin = copy.deepcopy(norms)
    found, constants = interpreted.batch_norm.batch_norm(x, norms, shortcut, keep, padded)
    expected, plain = batch_norm.batch_norm(x, twin, shortcut, keep, padded)
    close = dict(rtol=1e-4, atol=1e-4) if dtype == torch.float32 else dict(rtol=2e-2, atol=6e-2)
    assert found.dtype == dtype
    assert shape[2] * shape[3] == 1 or found.is_contiguous(memory_format=order)
    torch.testing.assert_close(found, expected, **close)
    for one, other in zip((n for n in norms[:2] if n), (n for n in twin[:2] if n)):
        torch.testing.assert_close(one.running_mean, other.running_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.running_var, other.running_var, rtol=1e-4, atol=1e-5)
    again = interpreted.batch_norm.batch_norm_values(x, constants, shortcut, keep, padded)
    assert torch.equal(again, found)
    grad = torch.randn(expected.shape).to(dtype)
    of_x, of_channels = interpreted.batch_norm.batch_norm_backward(grad, x, constants, norms, keep, padded)
    expected_x, expected_channels = batch_norm.batch_norm_backward(grad, x, plain, twin, keep, padded)
    torch.testing.assert_close(of_x, expected_x, **close)
    rows = [0, 1, *([2, 3] if two else []), *([4] if gain else [])]
    size = 1 + expected_channels[rows].abs().max()
    torch.testing.assert_close(of_channels[rows] / size, expected_channels[rows] / size, **close)


@pytest.mark.parametrize('channels_last', [False, True])
def test_more_than_one_stretch_of_rows(interpreted, monkeypatch, channels_last):
    """Of many tiles each, and merged some at a time; twice, from counters that the first launch has left at zero."""
    monkeypatch.setattr(interpreted.batch_norm, 'MOST_SPLITS', 3)
    torch.manual_seed(0)
    order = torch.channels_last if channels_last else torch.contiguous_format
    channels = 5 if channels_last else 2
    x = (torch.randn(2, channels, 17, 9) + 100).contiguous(
        memory_format=order
    )  # far from zero: sums of squares would fail
    _, splits, stretch = interpreted.batch_norm.Shape.of(x).splits(64)
    assert splits == 3 > interpreted.batch_norm.SPLIT_BLOCK
    assert stretch > interpreted.batch_norm.TILES * interpreted.batch_norm.Shape.of(x).tiles[0]
    grad = torch.randn_like(x)
    norms = random_norms(channels, True, False)
    results = []
    for room in (interpreted.batch_norm, interpreted.batch_norm, batch_norm):
        twin = copy.deepcopy(norms)
        out, constants = room.batch_norm(x, twin, None, None, False)
        of_x, of_channels = room.batch_norm_backward(grad, x, constants, twin, None, False)
        results.append([constants.values[:2], out, of_x, of_channels[:4]])
    counters = interpreted.arrivals._of_streams.values()
    assert counters and not any(c.any() for c in counters)
    for found, again, expected, size in zip(*results, (1e-5, 1e-3, 1e-3, 1e-2)):
        assert torch.equal(found, again)
        torch.testing.assert_close(found, expected, rtol=min(size, 1e-3), atol=size)


@pytest.mark.parametrize('channels', [1, 3, 64, 96, 512])
@pytest.mark.parametrize('channels_last', [False, True])
def test_stretches_cover_all_rows(interpreted, channels, channels_last):
    for rows in (2, 127, 128 * 7 * 7, 128 * 112 * 112):
        shape = interpreted.batch_norm.Shape(1, channels, rows, 1, channels_last)
        height, width = shape.tiles
        for programs in (1, 264, 396):
            blocks, splits, stretch = shape.splits(programs)
            assert (splits - 1) * stretch < rows <= splits * stretch and stretch % height == 0
            assert blocks * width >= channels and blocks * splits <= max(programs, blocks)


def test_layers_take_the_kernels(dispatched, monkeypatch):
    torch.manual_seed(0)
    pair, padded = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)]), BNAndPad(4)
    modules = nn.ModuleList([pair, padded, nn.Conv2d(4, 4, 3, groups=4)])
    results = []
    for kernels in (True, False):
        if not kernels:
            monkeypatch.setattr(dispatch, 'find', lambda *args: None)
        twin = copy.deepcopy(modules)
        x = torch.sin(torch.arange(2 * 4 * 9.0)).view(2, 4, 3, 3).requires_grad_()
        with compact_saving.compact_saving():
            out = twin[2](twin[1](fused(list(twin[0]), x, Residual(x * 2, torch.full((4,), 0.5)))))
        out.square().sum().backward()
        results.append([out.detach(), x.grad, *(p.grad for p in twin.parameters())])
    assert {'batch_norm', 'batch_norm_backward', 'batch_norm_values'} <= set(dispatched)
    for found, expected in zip(*results):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
