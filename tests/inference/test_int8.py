"""8-bit convolutions sum exactly what floats sum, and integer inference with and without them has the same bits."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from trained_networks import assert_same_bits, membranes, trained

from qsdt_mm.inference import convert, int8
from qsdt_mm.inference.exact import FoldedLayer
from qsdt_mm.models.quantization import QuantizedWeight

needs_int8 = pytest.mark.skipif(not int8.is_available(), reason='this machine has no exact 8-bit convolutions')


@needs_int8
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    groups=st.sampled_from([1, 2, 8]),
    channels=st.sampled_from([(8, 8), (16, 8), (8, 24)]),
    kernel=st.sampled_from([1, 2, 3, 7]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(13, 16), st.integers(13, 16)),
    max_spike_count=st.sampled_from([1, 4, int8.MOST]),
    seed=st.integers(0, 99),
)
def test_sums_are_those_of_integers(groups, channels, kernel, stride, padding, dilation, size, max_spike_count, seed):
    torch.manual_seed(seed)
    before, after = channels
    args = dict(stride=(stride, stride), padding=(padding, padding), dilation=(dilation, dilation), groups=groups)
    weight = torch.randint(-128, 128, (after, before // groups, kernel, kernel), dtype=torch.int8)
    count = torch.randint(0, max_spike_count + 1, (2, before, *size))
    sums = int8.sums(count.float(), int8.pack(weight, args, count.shape), args)
    assert sums.dtype == torch.float32
    assert torch.equal(sums.double(), F.conv2d(count.double(), weight.double(), **args))


@needs_int8
@pytest.mark.parametrize(
    'options',
    [
        dict(family='qsd'),
        dict(family='espike', weight_bits=8, max_spike_count=8, time_steps=2),
        dict(family='espike-large'),
    ],
    ids=str,
)
def test_integer_inference_is_the_same_without_them(options, monkeypatch):
    model, image = trained(**options), torch.randn(2, 3, 33, 47)
    exact, calls = convert(model, 'integer'), []
    monkeypatch.setattr(int8, 'sums', lambda *args, sums=int8.sums: calls.append(args) or sums(*args))
    with_them = membranes(exact, image)
    assert len(calls) > 20
    monkeypatch.setattr(int8, 'is_available', lambda: False)
    calls.clear()
    assert_same_bits(with_them, membranes(exact, image))
    assert not calls


def conv(weight, **args):
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=False, **args)
    ones, zeros = torch.ones(len(weight)).double(), torch.zeros(len(weight)).double()
    weight = weight if weight.is_floating_point() else QuantizedWeight(weight, ones, 8)
    return FoldedLayer(layer, weight, ones, zeros)


@needs_int8
def test_what_does_not_fit_is_left_to_floats():
    count = torch.zeros(1, 8, 4, 4)
    layer = conv(torch.ones(8, 8, 1, 1, dtype=torch.int8))
    assert layer.takes_int8(4, count)
    assert not layer.takes_int8(None, count) and not layer.takes_int8(int8.MOST + 1, count)
    assert not layer.takes_int8(4, count[0, 0])
    assert not conv(torch.ones(8, 8, 1, 1)).takes_int8(4, count)
    wide = conv(torch.full((1, 1200, 1, 1), 127, dtype=torch.int8))  # 1200 * 127 * 111 is beyond 2^24
    assert wide.takes_int8(110, count) and not wide.takes_int8(111, count)


@needs_int8
def test_packed_weights_are_no_part_of_a_copy_and_follow_the_weight():
    layer = conv(torch.ones(8, 8, 1, 1, dtype=torch.int8))
    count = torch.ones(1, 8, 4, 4)
    assert torch.equal(layer.linear_int8(count), torch.full((1, 8, 4, 4), 8.0))
    twin = copy.deepcopy(layer)
    twin.load_state_dict(dict(twin.state_dict(), weight=torch.full((8, 8, 1, 1), 2, dtype=torch.int8)))
    assert torch.equal(twin.linear_int8(count), torch.full((1, 8, 4, 4), 16.0))
    assert torch.equal(layer.linear_int8(count[..., :3]), torch.full((1, 8, 4, 3), 8.0))
    layer.weight.fill_(3)
    assert torch.equal(layer.linear_int8(count), torch.full((1, 8, 4, 4), 24.0))
