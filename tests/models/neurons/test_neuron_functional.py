"""Neurons as functions: counts and gradients against their formulas."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsdt_mm.models.neurons import functional
from qsdt_mm.models.neurons.functional import (
    SURROGATES,
    binary_spike,
    integrate_and_fire_step,
    lif_step,
    spike_count,
)

PROPERTY = settings(max_examples=80, deadline=None, derandomize=True)
HALF = Fraction(1, 2)
LEVELS = st.integers(1, 8)
POWERS_OF_TWO = st.sampled_from([0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0])
# Sixteenths of a threshold: few enough bits for bfloat16, and every boundary of the neuron is among them.
SIXTEENTHS = st.lists(st.integers(-64, 240), min_size=1, max_size=24)
ROUNDINGS = st.sampled_from(functional.ROUNDINGS)
DTYPES = st.sampled_from([torch.float64, torch.float32, torch.bfloat16])


def exact_count(membrane, threshold, levels, rounding='half_up'):
    """The formula in rational numbers, of which Python rounds halves to even."""
    ratio = Fraction(membrane) / Fraction(threshold)
    return min(max(round(ratio) if rounding == 'half_even' else math.floor(ratio + HALF), 0), levels)


def distance_to_boundary(membrane, threshold):
    """How far u / threshold is from the next half-integer, where the count changes."""
    ratio = Fraction(membrane) / Fraction(threshold) + HALF
    return abs(ratio - round(ratio))


@PROPERTY
@given(steps=SIXTEENTHS, threshold=POWERS_OF_TWO, levels=LEVELS, dtype=DTYPES, rounding=ROUNDINGS)
def test_counts_are_the_formula_at_every_boundary(steps, threshold, levels, dtype, rounding):
    steps = [*steps, *(16 * d - 8 for d in range(1, levels + 2)), *(16 * d - 9 for d in range(1, levels + 2))]
    membrane = [k * threshold / 16 for k in steps]
    counts = spike_count(torch.tensor(membrane, dtype=dtype), threshold, levels, rounding)
    assert counts.dtype is dtype
    assert counts.tolist() == [exact_count(u, threshold, levels, rounding) for u in membrane]


@PROPERTY
@given(
    membrane=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=24),
    threshold=st.floats(0.015625, 10, width=32),
    levels=LEVELS,
    dtype=st.sampled_from([torch.float64, torch.float32]),
    rounding=ROUNDINGS,
)
def test_counts_are_the_formula_for_any_real_threshold(membrane, threshold, levels, dtype, rounding):
    counts = spike_count(torch.tensor(membrane, dtype=dtype), threshold, levels, rounding).tolist()
    for u, count in zip(membrane, counts, strict=True):
        # Nearer to a boundary than a rounding of u / threshold + 0.5, arithmetic of limited width may go either way.
        rounding = 2 * torch.finfo(dtype).eps * (abs(u / threshold) + 1)
        allowed = {exact_count(u, threshold, levels, rounding)}
        if distance_to_boundary(u, threshold) <= rounding:
            allowed = {
                exact_count(u - rounding * threshold, threshold, levels),
                exact_count(u + rounding * threshold, threshold, levels),
            }
        assert count in allowed


@pytest.mark.parametrize('levels', range(1, 9))
def test_d_levels_reach_d_and_no_further(levels):
    membrane = torch.linspace(-2, 12, 1401)
    assert spike_count(membrane, 1.0, levels).unique().tolist() == list(range(levels + 1))
    # The d-th spike fires at (d - 0.5) thresholds, and not just below.
    boundary = torch.arange(1, levels + 1) - 0.5
    assert spike_count(boundary, 1.0, levels).tolist() == list(range(1, levels + 1))
    assert spike_count(boundary - 1e-5, 1.0, levels).tolist() == list(range(levels))


@PROPERTY
@given(
    steps=SIXTEENTHS,
    threshold=POWERS_OF_TWO,
    scale=st.sampled_from([0.125, 0.25, 0.5, 1.0]),
    levels=LEVELS,
    dtype=DTYPES,
    seed=st.integers(0, 99),
    rounding=ROUNDINGS,
)
def test_gradient_is_straight_through(steps, threshold, scale, levels, dtype, seed, rounding):
    steps = [*steps, 0, 16 * levels, -1, 16 * levels + 1]  # always the bounds, and just beyond them
    membrane = torch.tensor([k * threshold / 16 for k in steps], dtype=dtype, requires_grad=True)
    upstream = torch.randint(1, 9, membrane.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    (spike_count(membrane, threshold, levels, rounding) * scale).backward(upstream)
    inside = [0 <= k <= 16 * levels for k in steps]
    expected = [g * scale / threshold * i for g, i in zip(upstream.tolist(), inside, strict=True)]
    assert membrane.grad.dtype is dtype
    assert membrane.grad.tolist() == expected


@PROPERTY
@given(
    levels=st.integers(1, 127),
    threshold=st.sampled_from([0.25, 0.3, 1.0, 1.7, 2.0]),
    scale=st.sampled_from([0.25, 0.3, 1.0]),
    bit=st.sampled_from([0, 1, functional.INSIDE_HALF, functional.INSIDE]),
    dtype=DTYPES,
    piece=st.integers(1, 80),
    channels_last=st.booleans(),
    seed=st.integers(0, 10_000),
    rounding=ROUNDINGS,
)
def test_pieces_and_bytes_are_the_definition(
    levels, threshold, scale, bit, dtype, piece, channels_last, seed, rounding
):
    """Counts made piece by piece, and the byte that is kept for each, with bounds hit exactly."""
    if bit == functional.INSIDE_HALF:
        levels = min(levels, 7)
    membrane = levels * threshold * torch.randn(2, 3, 4, 3, generator=torch.Generator().manual_seed(seed))
    membrane.view(-1)[:6] = torch.tensor([0.0, -0.0, levels * threshold, math.inf, -math.inf, threshold / 2])
    membrane = membrane.to(dtype)
    if channels_last:
        membrane = membrane.contiguous(memory_format=torch.channels_last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, 'PIECE', piece)
        found, kept = functional._fire(membrane, threshold, levels, scale, bit, rounding)
    ratio = membrane / threshold
    count = ((ratio + 0.5).floor() if rounding == 'half_up' else ratio.round()).clamp(0, levels)
    assert torch.equal(found, count * scale) and found.stride() == membrane.stride()
    if not bit:
        assert kept is None
        return
    inside = (membrane >= 0) & (membrane <= levels * threshold)
    expected = bit * inside.int() + (count.int() if bit > 1 else 0)
    assert torch.equal(kept.int(), expected) and kept.stride() == membrane.stride()


@pytest.mark.parametrize('rounding', functional.ROUNDINGS)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_not_a_number_is_not_hidden(dtype, rounding):
    membrane = torch.tensor([math.nan, math.inf, -math.inf], dtype=dtype)
    counts = spike_count(membrane, 1.0, 4, rounding)
    assert counts[0].isnan()
    assert counts[1:].tolist() == [4, 0]
    assert integrate_and_fire_step(membrane, None, 1.0, 4, rounding=rounding)[0][0].isnan()


@pytest.mark.parametrize('function', [spike_count, functional.scaled_spikes])
def test_rules_that_there_are_not(function):
    with pytest.raises(ValueError, match="rounding='up' is not allowed: expected half_up or half_even"):
        function(
            torch.zeros(2), threshold=1.0, levels=4, rounding='up', **({} if function is spike_count else {'scale': 1})
        )


@pytest.mark.parametrize('threshold', [0.25, 0.3])
def test_shapes_without_values(threshold):
    """On the meta device, where networks are counted."""
    membrane = torch.empty(2, 3, device='meta', requires_grad=True)
    spikes = spike_count(membrane, threshold)
    assert spikes.shape == (2, 3) and spikes.device.type == 'meta'
    assert torch.autograd.grad(spikes.sum(), membrane)[0].shape == (2, 3)


def test_the_membrane_given_is_left_alone():
    membrane = torch.randn(64)
    before = membrane.clone()
    spike_count(membrane, 0.25, 4)
    assert torch.equal(membrane, before)


@PROPERTY
@given(
    steps=st.lists(st.lists(st.integers(-64, 160), min_size=3, max_size=3), min_size=1, max_size=8),
    threshold=POWERS_OF_TWO,
    levels=LEVELS,
    rounding=ROUNDINGS,
)
def test_without_decay_nothing_is_lost(steps, threshold, levels, rounding):
    """Soft reset keeps the books: what came in is what was fired plus what is left."""
    currents = torch.tensor(steps, dtype=torch.float64) * threshold / 16
    carried, fired = None, torch.zeros(3, dtype=torch.float64)
    for current in currents:
        count, carried = integrate_and_fire_step(current, carried, threshold, levels, rounding=rounding)
        fired += count
    assert torch.equal(fired * threshold + carried, currents.sum(0))


def test_decay_scales_what_is_carried():
    first, second = torch.tensor([0.375]), torch.tensor([0.25])
    count, carried = integrate_and_fire_step(first, None, 1.0, 4, decay=0.5)
    assert (count.item(), carried.item()) == (0, 0.1875)
    assert integrate_and_fire_step(second, carried, 1.0, 4, decay=0.5)[0].item() == 0
    count, carried = integrate_and_fire_step(first, None, 1.0, 4, decay=1.0)
    assert integrate_and_fire_step(second, carried, 1.0, 4, decay=1.0)[0].item() == 1
    # After a spike the rest is carried, here a negative one.
    count, carried = integrate_and_fire_step(torch.tensor([0.75]), None, 1.0, 4, decay=0.5)
    assert (count.item(), carried.item()) == (1, -0.125)


SMOOTH = {
    'sigmoid': lambda excess, alpha: torch.sigmoid(alpha * excess),
    'atan': lambda excess, alpha: torch.atan(math.pi / 2 * alpha * excess) / math.pi + 0.5,
}


@PROPERTY
@given(
    surrogate=st.sampled_from(SURROGATES),
    alpha=st.floats(0.25, 16),
    excess=st.lists(st.floats(-4, 4), min_size=1, max_size=16),
    seed=st.integers(0, 99),
)
def test_surrogate_gradient_is_the_derivative_of_the_smooth_function(surrogate, alpha, excess, seed):
    upstream = torch.randn(len(excess), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    hard = torch.tensor(excess, dtype=torch.float64, requires_grad=True)
    soft = hard.detach().clone().requires_grad_()
    spikes = binary_spike(hard, surrogate, alpha)
    assert spikes.tolist() == [float(e >= 0) for e in excess]
    spikes.backward(upstream)
    SMOOTH[surrogate](soft, alpha).backward(upstream)
    torch.testing.assert_close(hard.grad, soft.grad, rtol=1e-9, atol=1e-12)


def test_a_surrogate_spike_lands_on_the_threshold():
    assert binary_spike(torch.tensor([-1e-6, 0.0, 1e-6])).tolist() == [0, 1, 1]


@PROPERTY
@given(
    currents=st.lists(st.floats(-4, 4), min_size=1, max_size=8),
    threshold=st.floats(0.1, 2),
    tau=st.floats(1, 8),
    reset=st.floats(-1, 0),
)
def test_lif_is_the_plain_recurrence(currents, threshold, tau, reset):
    potential, carried = reset, None
    for current in currents:
        spike, carried = lif_step(torch.tensor([current], dtype=torch.float64), carried, threshold, tau, reset)
        potential = potential + (current - (potential - reset)) / tau
        fires = potential - threshold >= 0
        potential = reset if fires else potential
        assert spike.item() == fires
        assert carried.item() == potential
