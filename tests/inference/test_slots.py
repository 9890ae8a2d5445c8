"""The slot algebra: sums and products over binary spikes are those of the counts."""

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsdt_mm.inference.slots import product_over_slots, slots, sum_over_slots

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)
levels_and_seed = dict(max_spike_count=st.integers(1, 8), seed=st.integers(0, 999))


def counts(max_spike_count, seed, *shape):
    return torch.randint(0, max_spike_count + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


@PROPERTY
@given(**levels_and_seed)
def test_slots_are_binary_ordered_and_sum_to_the_count(max_spike_count, seed):
    count = counts(max_spike_count, seed, 3, 5)
    spikes = list(slots(count, max_spike_count))
    assert len(spikes) == max_spike_count
    assert all(set(s.unique().tolist()) <= {0.0, 1.0} for s in spikes)
    assert all((later <= earlier).all() for earlier, later in zip(spikes, spikes[1:]))
    assert torch.equal(sum(spikes), count)


@PROPERTY
@given(**levels_and_seed)
def test_a_linear_map_of_slots_is_that_of_the_count(max_spike_count, seed):
    count = counts(max_spike_count, seed, 4, 6)
    weight = torch.randint(-8, 8, (3, 6), generator=torch.Generator().manual_seed(seed)).float()
    seen = []

    def linear(spikes):
        seen.append(spikes)
        return spikes @ weight.T

    assert torch.equal(sum_over_slots(linear, count, max_spike_count), count @ weight.T)
    assert len(seen) == max_spike_count and all(set(s.unique().tolist()) <= {0.0, 1.0} for s in seen)


@PROPERTY
@given(**levels_and_seed)
def test_a_product_keeps_the_cross_terms(max_spike_count, seed):
    left, right = counts(max_spike_count, seed, 4, 6), counts(max_spike_count, seed + 1, 6, 5)
    binary = []

    def product(a, b):
        binary.append(any(set(x.unique().tolist()) <= {0.0, 1.0} for x in (a, b)))
        return a @ b

    assert torch.equal(product_over_slots(product, left, right, max_spike_count), left @ right)
    assert all(binary)


def test_slot_by_slot_alone_would_lose_them():
    """The mistake that this guards against: sum_d k_d^T v_d is not K^T V."""
    left, right = torch.tensor([[2.0]]), torch.tensor([[2.0]])
    naive = sum(a @ b for a, b in zip(slots(left, 2), slots(right, 2)))
    assert naive.item() == 2 and product_over_slots(torch.matmul, left, right, 2).item() == 4


@pytest.mark.parametrize('max_spike_count', [1, 4])
def test_counts_are_left_alone(max_spike_count):
    count = counts(max_spike_count, 0, 4, 4)
    before = count.clone()
    product_over_slots(torch.matmul, count, count, max_spike_count)
    sum_over_slots(lambda s: s, count, max_spike_count)
    assert torch.equal(count, before)


@pytest.mark.parametrize('max_spike_count', [2, 8])
def test_slots_are_streamed(max_spike_count):
    """However many slots there are, no more than two exist at a time: the one in use and the next."""
    alive, most = [], 0

    def linear(spikes):
        nonlocal most
        alive.append(weakref.ref(spikes))
        most = max(most, sum(reference() is not None for reference in alive))
        return spikes * 2

    sum_over_slots(linear, counts(max_spike_count, 0, 4, 4), max_spike_count)
    assert len(alive) == max_spike_count and most <= 2
