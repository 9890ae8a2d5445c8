"""Operations, against brute force."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qsdt_mm.analysis.operations import (
    attention_macs,
    attention_operations,
    dense_macs,
    synaptic_operations,
)
from qsdt_mm.inference.slots import CODINGS, slots

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)


def brute_force(layer, count):
    """Every spike of every input, one at a time: how many outputs change when all weights are one."""
    ones = torch.ones_like(layer.weight)
    total = 0
    for place in count.nonzero().tolist():
        single = torch.zeros_like(count)
        single[tuple(place)] = 1
        out = F.conv2d(single, ones, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        assert set(out.unique().tolist()) <= {0.0, 1.0}
        total += int(count[tuple(place)]) * int(out.sum())
    return total


@PROPERTY
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 999),
)
def test_sops_of_a_convolution(kernel, stride, padding, dilation, groups, seed):
    layer = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups)
    count = torch.randint(0, 4, (2, 4, 7, 8), generator=torch.Generator().manual_seed(seed)).float()
    assert synaptic_operations(layer, count) == brute_force(layer, count)
    assert synaptic_operations(layer, count) == sum(synaptic_operations(layer, s) for s in slots(count, 3))


@PROPERTY
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    extra=st.integers(0, 1),
    seed=st.integers(0, 999),
)
def test_sops_of_a_transposed_convolution(kernel, stride, padding, extra, seed):
    padding, extra = min(padding, (kernel - 1) // 2), min(extra, stride - 1)
    layer = nn.ConvTranspose2d(3, 5, kernel, stride, padding, output_padding=extra)
    count = torch.randint(0, 4, (2, 3, 4, 5), generator=torch.Generator().manual_seed(seed)).float()
    out = F.conv_transpose2d(count, torch.ones_like(layer.weight), None, stride, padding, extra)
    assert synaptic_operations(layer, count) == round(out.sum().item())
    assert dense_macs(layer, count, layer(count)) == count.numel() * 5 * kernel**2


def test_sops_of_a_linear_layer():
    count = torch.tensor([[0.0, 3.0], [1.0, 0.0]])
    assert synaptic_operations(nn.Linear(2, 5), count) == 4 * 5


def test_inner_places_of_a_dense_input_reach_all():
    """Without borders, one spike everywhere makes SOPs equal dense MACs."""
    layer = nn.Conv2d(3, 6, 3)
    count = torch.ones(1, 3, 9, 9)
    assert synaptic_operations(layer, count) == dense_macs(layer, count, layer(count)) == 7 * 7 * 6 * 27
    padded = nn.Conv2d(3, 6, 3, padding=1)
    assert synaptic_operations(padded, count) < dense_macs(padded, count, padded(count)) == 9 * 9 * 6 * 27


def additions(query, key, value, most, coding):
    """Slot by slot, row by row, as spike-driven inference adds."""
    total = 0
    (dk, tokens), dv = key.shape[-2:], value.shape[-2]
    if 2 * dk * dv <= tokens * (dk + dv):
        rows, (left, right, last) = (dk, dv, dv), (value, key, query)
    else:
        rows, (left, right, last) = (tokens,) * 3, (key, query, value)
    for d, (a, b) in enumerate(zip(slots(left, most, coding), slots(right, most, coding)), 1):
        total += int(a.sum()) * rows[0]
        if d > 1:
            total += int(b.sum()) * rows[1]
    return total + sum(int(s.sum()) for s in slots(last, most, coding)) * rows[2]


@pytest.mark.parametrize(('dk', 'dv', 'tokens'), [(3, 3, 20), (3, 8, 20), (8, 8, 2), (4, 12, 3)])
@pytest.mark.parametrize('max_spike_count', [1, 4, 7])
def test_attention(dk, dv, tokens, max_spike_count):
    query, key, value = (torch.randint(0, max_spike_count + 1, (2, 2, c, tokens)).double() for c in (dk, dk, dv))
    for coding in CODINGS:
        added = additions(query, key, value, max_spike_count, coding)
        assert attention_operations(query, key, value, coding, max_spike_count) == added
    assert attention_operations(query, key, value) == additions(query, key, value, max_spike_count, 'unary')
    both = 2 * dk * dv * tokens, tokens * tokens * (dk + dv)
    assert attention_macs(query, key, value) == 4 * min(both)
