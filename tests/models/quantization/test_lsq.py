"""LSQ: values on the grid, gradients by the definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsdt_mm.models.quantization import LSQ, check_weight_bits, lsq_quantize, quant_range
from qsdt_mm.models.quantization.lsq import MIN_STEP

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)
BITS = st.sampled_from([2, 3, 4, 8])
SHAPES = st.sampled_from([(1, 1), (3, 5), (4, 2, 3, 3), (6, 1, 7, 7)])


def draw(shape, bits, seed, dtype=torch.float64):
    """Weights over more than the range of their steps, so that some clip; a different step in each channel."""
    source = torch.Generator().manual_seed(seed)
    step = torch.rand(shape[0], generator=source, dtype=torch.float64) * 0.2 + 0.05
    spread = 2 ** (bits - 1) * 0.8
    weight = torch.randn(shape, generator=source, dtype=torch.float64) * spread * per_channel(step, shape)
    upstream = torch.randn(shape, generator=source, dtype=torch.float64)
    return weight.to(dtype), step.to(dtype), upstream.to(dtype)


def per_channel(step, shape):
    return step.view(-1, *[1] * (len(shape) - 1))


def round_pass(x):
    return x.detach().round() + (x - x.detach())


def clip_pass(x, low, high):
    """A clip with slope 1 on its bounds; that of torch.clamp differs between versions of torch."""
    return torch.where((x >= low) & (x <= high), x, x.detach().clamp(low, high))


def lsq_by_definition(weight, step, bits):
    """The paper's pseudo-code in plain operations; autograd makes the gradients."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    factor = 1 / math.sqrt(weight.numel() * high)
    step = step.detach() + (step * factor - (step * factor).detach())
    step = per_channel(step, weight.shape)
    return round_pass(clip_pass(weight / step, low, high)) * step


@PROPERTY
@given(bits=BITS, shape=SHAPES, seed=st.integers(0, 10_000))
def test_values_and_gradients_are_the_definition(bits, shape, seed):
    weight, step, upstream = draw(shape, bits, seed)
    ours = weight.clone().requires_grad_(), step.clone().requires_grad_()
    plain = weight.clone().requires_grad_(), step.clone().requires_grad_()
    out, expected = lsq_quantize(*ours, bits), lsq_by_definition(*plain, bits)
    out.backward(upstream)
    expected.backward(upstream)
    assert torch.equal(out, expected)
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-11, atol=1e-12)


@PROPERTY
@given(bits=BITS, halves=st.lists(st.integers(-300, 300), min_size=1, max_size=24), seed=st.integers(0, 99))
def test_bounds_and_ties_are_the_definition(bits, halves, seed):
    """Weights on whole and half steps, without rounding: both bounds of the range and every tie occur."""
    weight = (torch.tensor([halves], dtype=torch.float64) * 0.125).requires_grad_()
    step = torch.tensor([0.25], dtype=torch.float64, requires_grad=True)
    upstream = torch.randint(-8, 9, weight.shape, generator=torch.Generator().manual_seed(seed)).double()
    out = lsq_quantize(weight, step, bits)
    out.backward(upstream)
    low, high = quant_range(bits)
    inside = torch.tensor([[low <= h / 2 <= high for h in halves]])
    level = torch.tensor([[float(round(min(max(h / 2, low), high))) for h in halves]], dtype=torch.float64)
    slope = torch.where(inside, level - weight / 0.25, level)
    assert torch.equal(out, level * 0.25)
    assert torch.equal(weight.grad, upstream * inside)
    expected = (upstream * slope).sum() / math.sqrt(len(halves) * high)
    torch.testing.assert_close(step.grad, expected[None], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('bits', [2, 3, 4, 8])
@pytest.mark.parametrize('seed', range(3))
def test_torch_has_the_same_gradients_away_from_the_bounds(bits, seed):
    """Where torch's learnable fake quantization is there, it agrees.

    It asks whether the *rounded* weight is in the range; LSQ clips before it rounds. The two differ within half a step
    outside the range: torch passes gradient there, LSQ by its definition does not.
    """
    fake_quantize = getattr(torch, '_fake_quantize_learnable_per_channel_affine', None)
    if fake_quantize is None:
        pytest.skip('this torch has no _fake_quantize_learnable_per_channel_affine')
    low, high = quant_range(bits)
    weight, step, upstream = draw((8, 4, 3, 3), bits, seed, torch.float32)
    weight[0, 0, 0, :2] = torch.tensor([high + 0.25, low - 0.25]) * step[0]
    ratio = weight / per_channel(step, weight.shape)
    between = ((ratio > high) & (ratio < high + 0.5)) | ((ratio < low) & (ratio > low - 0.5))
    assert between.any()
    upstream_off = torch.where(between, torch.zeros(()), upstream)
    ours = weight.clone().requires_grad_(), step.clone().requires_grad_()
    theirs = weight.clone().requires_grad_(), step.clone().requires_grad_()

    def run_theirs(w, s):
        return fake_quantize(w, s, torch.zeros(8), 0, low, high, 1 / math.sqrt(w.numel() * high))

    out, expected = lsq_quantize(*ours, bits), run_theirs(*theirs)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-7)
    out.backward(upstream_off)
    expected.backward(upstream_off)
    torch.testing.assert_close(ours[0].grad, theirs[0].grad, rtol=0, atol=0)
    torch.testing.assert_close(ours[1].grad, theirs[1].grad, rtol=1e-4, atol=1e-5)
    # The half step next to the range, where they differ.
    mine, other = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    lsq_quantize(mine, step, bits).sum().backward()
    run_theirs(other, step.clone().requires_grad_()).sum().backward()
    assert (mine.grad[between] == 0).all() and (other.grad[between] == 1).all()


@PROPERTY
@given(bits=BITS, shape=SHAPES, seed=st.integers(0, 10_000), dtype=st.sampled_from([torch.float64, torch.float32]))
def test_values_are_integers_of_the_range_times_the_step(bits, shape, seed, dtype):
    weight, step, _ = draw(shape, bits, seed, dtype)
    quantizer = LSQ(shape[0], bits).to(dtype)
    with torch.no_grad():
        quantizer.step.copy_(step)
    integers = quantizer.integers(weight)
    assert torch.equal(integers, integers.round())
    assert -(2 ** (bits - 1)) <= integers.min() and integers.max() <= 2 ** (bits - 1) - 1
    assert torch.equal(quantizer(weight), integers * per_channel(step, shape))
    assert torch.equal(lsq_quantize(quantizer(weight).detach(), step, bits), quantizer(weight))  # idempotent


def test_every_integer_of_the_range_occurs():
    for bits in (2, 3, 4, 8):
        weight = torch.linspace(-300, 300, 6001)[None]
        low, high = quant_range(bits)
        assert LSQ(1, bits).integers(weight).unique().tolist() == list(range(low, high + 1))


@pytest.mark.parametrize(('bits', 'expected'), [(2, (-2, 1)), (3, (-4, 3)), (4, (-8, 7)), (8, (-128, 127))])
def test_quant_range_is_signed(bits, expected):
    assert quant_range(bits) == expected


@pytest.mark.parametrize('bits', [2, 3, 4, 8])
def test_first_step_is_the_formula(bits):
    weight = torch.randn(6, 3, 3, 3)
    quantizer = LSQ(6, bits)
    quantizer.reset_step(weight)
    expected = 2 * weight.abs().mean().item() / math.sqrt(2 ** (bits - 1) - 1)
    assert quantizer.step.tolist() == pytest.approx([expected] * 6, rel=1e-6)


def test_not_a_number_is_not_hidden():
    weight = torch.tensor([[math.nan, 1.0]])
    assert lsq_quantize(weight, torch.ones(1), 4).isnan().tolist() == [[True, False]]


@pytest.mark.parametrize('value', [0.0, -0.0, 1e-12, -1e-12, -0.3, 0.3, MIN_STEP, -MIN_STEP])
def test_step_in_use_is_positive(value):
    quantizer = LSQ(2, 4)
    with torch.no_grad():
        quantizer.step.fill_(value)
    in_use = quantizer.positive_step
    assert in_use.tolist() == pytest.approx([max(abs(value), MIN_STEP)] * 2, rel=1e-6)
    assert (in_use >= torch.tensor(MIN_STEP)).all()
    assert quantizer(torch.randn(2, 9)).isfinite().all()


def test_an_optimizer_that_drives_steps_through_zero_meets_positive_steps():
    """The loss rewards small steps, with a rate that overshoots zero again and again."""
    quantizer = LSQ(4, 4)
    with torch.no_grad():
        quantizer.step.copy_(torch.tensor([0.31, 0.07, 0.23, 0.11]))
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.05)
    weight = torch.randn(4, 8)
    signs = set()
    for _ in range(40):
        optimizer.zero_grad()
        out = quantizer(weight)
        assert out.isfinite().all()
        assert torch.equal(quantizer.positive_step, quantizer.step.abs().clamp_min(MIN_STEP))
        quantizer.positive_step.sum().backward()
        assert quantizer.step.grad.isfinite().all()
        optimizer.step()
        signs.update(quantizer.step.sign().tolist())
    assert signs == {-1.0, 1.0}


@pytest.mark.parametrize('start', [0.5, 1.0])
def test_a_step_at_or_below_the_floor_can_leave_it(start):
    """All-zero weights put steps on the floor; were it a dead end, the layer could never learn."""
    quantizer = LSQ(1, 4)
    with torch.no_grad():
        quantizer.step.fill_(start * MIN_STEP)
    (-quantizer(torch.ones(1, 3))).sum().backward()
    assert quantizer.step.grad.item() == pytest.approx(-3 * 7 / math.sqrt(3 * 7))


@pytest.mark.parametrize('bits', [1, 5, 6, 16, 0, -4, 33, 4.5, '4', None, True])
def test_other_widths_are_refused(bits):
    with pytest.raises(ValueError, match=r'^weight_bits=.* expected one of 2, 3, 4, 8, 32'):
        check_weight_bits(bits)


def test_the_quantizer_itself_is_not_for_32_bits():
    with pytest.raises(ValueError, match='^bits=32 .* below 32'):
        LSQ(4, 32)
