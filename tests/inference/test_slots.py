"""The slot algebra: sums and products over binary spikes are those of the counts."""

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsdt_mm.inference import ExactAttention, convert
from qsdt_mm.inference.slots import (
    CODINGS,
    number_of_slots,
    number_of_spikes,
    product_over_slots,
    slots,
    sum_over_slots,
    worths,
)

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)
levels_and_seed = dict(max_spike_count=st.integers(1, 8), seed=st.integers(0, 999))
coded = dict(max_spike_count=st.integers(1, 17), seed=st.integers(0, 999), coding=st.sampled_from(CODINGS))


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
@given(**coded)
def test_slots_are_as_few_as_said_and_worth_the_count(max_spike_count, seed, coding):
    count = counts(max_spike_count, seed, 3, 5)
    for values in (count, count.long(), count.bfloat16()):
        spikes = list(slots(values, max_spike_count, coding))
        assert all(set(s.unique().tolist()) <= {0, 1} and s.dtype == values.dtype for s in spikes)
        worth = worths(max_spike_count, coding)
        assert len(spikes) == len(worth) == number_of_slots(max_spike_count, coding)
        assert torch.equal(sum(w * s for w, s in zip(worth, spikes)), values)
        assert torch.equal(number_of_spikes(values, max_spike_count, coding), sum(spikes))
    assert torch.equal(count, counts(max_spike_count, seed, 3, 5))


def test_bits_are_those_of_python():
    for most in range(1, 40):
        assert number_of_slots(most, 'bitwise') == len(f'{most:b}') and number_of_slots(most) == most
        spikes = torch.stack(list(slots(torch.arange(most + 1), most, 'bitwise')), 1)
        width = len(f'{most:b}')
        assert [''.join(map(str, row)) for row in spikes.tolist()] == [f'{n:0{width}b}' for n in range(most + 1)]


@PROPERTY
@given(**coded)
def test_a_linear_map_of_slots_is_that_of_the_count(max_spike_count, seed, coding):
    count = counts(max_spike_count, seed, 4, 6)
    weight = torch.randint(-8, 8, (3, 6), generator=torch.Generator().manual_seed(seed)).float()
    seen = []

    def linear(spikes):
        seen.append(spikes)
        return spikes @ weight.T

    assert torch.equal(sum_over_slots(linear, count, max_spike_count, coding), count @ weight.T)
    assert len(seen) == number_of_slots(max_spike_count, coding) and all(
        set(s.unique().tolist()) <= {0.0, 1.0} for s in seen
    )


@PROPERTY
@given(**coded)
def test_a_product_keeps_the_cross_terms(max_spike_count, seed, coding):
    left, right = counts(max_spike_count, seed, 4, 6), counts(max_spike_count, seed + 1, 6, 5)
    binary = []

    def product(a, b):
        binary.append(any(set(x.unique().tolist()) <= {0.0, 1.0} for x in (a, b)))
        return a @ b

    assert torch.equal(product_over_slots(product, left, right, max_spike_count, coding), left @ right)
    assert len(binary) == 2 * number_of_slots(max_spike_count, coding) - 1
    assert all(binary)


@PROPERTY
@given(
    most=st.tuples(*[st.integers(1, 15)] * 3),
    tokens=st.sampled_from([2, 40]),  # either order of the products
    coding=st.sampled_from(CODINGS),
    seed=st.integers(0, 999),
)
def test_attention_of_streams_of_different_lengths(most, tokens, coding, seed):
    streams = [counts(d, seed + i, 2, 2, 3, tokens) for i, d in enumerate(most)]
    integer, spike = ExactAttention(0.25, most, False), ExactAttention(0.25, most, True, coding)
    assert torch.equal(integer(*streams), spike(*streams))


def test_a_coding_that_is_none_is_refused():
    for call in (
        lambda: list(slots(torch.ones(1), 4, 'binary')),
        lambda: number_of_slots(4, 'binary'),
        lambda: sum_over_slots(torch.neg, torch.ones(1), 4, 'binary'),
        lambda: convert(torch.nn.Identity(), 'spike', coding='binary'),
    ):
        with pytest.raises(ValueError, match="coding='binary' is not allowed: expected unary or bitwise"):
            call()
    with pytest.raises(ValueError, match="coding='bitwise' is not allowed: expected unary: mode integer has no slots"):
        convert(torch.nn.Identity(), 'integer', coding='bitwise')


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


@pytest.mark.parametrize('coding', CODINGS)
@pytest.mark.parametrize('max_spike_count', [2, 8])
def test_slots_are_streamed(max_spike_count, coding):
    """However many slots there are, no more than two exist at a time: the one in use and the next."""
    alive, most = [], 0

    def linear(spikes):
        nonlocal most
        alive.append(weakref.ref(spikes))
        most = max(most, sum(reference() is not None for reference in alive))
        return spikes * 2

    sum_over_slots(linear, counts(max_spike_count, 0, 4, 4), max_spike_count, coding)
    assert len(alive) == number_of_slots(max_spike_count, coding) and most <= 2
