"""Kernels, run by Triton's interpreter, against the plain functions on a CPU."""

import math

import pytest
import torch
from halves import check_halves
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from triton_values import edges, same

from qsdt_mm.models.neurons import IELIF, SpikingNeuron
from qsdt_mm.models.quantization import lsq, quant_range
from qsdt_mm.ops import dispatch, spiking
from qsdt_mm.ops.spiking import INSIDE

# A launch takes the interpreter hundredths of a second: few examples, and a failing one is not made smaller.
PROPERTY = settings(max_examples=10, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])
CONSTANTS = st.floats(0.01, 5)
SEEDS = st.integers(0, 10_000)
ROUNDINGS = st.sampled_from(spiking.ROUNDINGS)


@PROPERTY
@given(
    threshold=CONSTANTS,
    max_spike_count=st.integers(1, 12),
    scale=CONSTANTS,
    dtype=DTYPES,
    bit=st.sampled_from([1, INSIDE]),
    rounding=ROUNDINGS,
)
def test_spikes_bytes_and_gradients_of_the_neuron(interpreted, threshold, max_spike_count, scale, dtype, bit, rounding):
    membrane = edges(threshold, max_spike_count, dtype)
    spikes, kept = interpreted.neuron.fire(membrane, threshold, max_spike_count, scale, bit, rounding)
    expected, expected_kept = spiking.fire(membrane, threshold, max_spike_count, scale, bit, rounding)
    same(spikes, expected)
    same(kept, expected_kept)
    grad = membrane.roll(3)
    constants = threshold, scale, bit
    same(interpreted.neuron.fire_backward(grad, kept, *constants), spiking.fire_backward(grad, kept, *constants))


@PROPERTY
@given(
    shape=st.lists(st.integers(1, 9), max_size=4),
    seed=SEEDS,
    max_spike_count=st.integers(128, 1000),
    dtype=DTYPES,
    rounding=ROUNDINGS,
)
def test_any_shape_and_more_levels_than_a_byte(interpreted, shape, seed, max_spike_count, dtype, rounding):
    membrane = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * max_spike_count).to(dtype)
    for bit in (0, 1):
        found = interpreted.neuron.fire(membrane, 0.7, max_spike_count, 1.0, bit, rounding)
        expected = spiking.fire(membrane, 0.7, max_spike_count, 1.0, bit, rounding)
        same(found[0], expected[0])
        if bit:
            same(found[1], expected[1])
        else:
            assert found[1] is None and expected[1] is None


def test_more_than_one_block(interpreted):
    membrane = torch.randn(3, 1000) * 3
    spikes, kept = interpreted.neuron.fire(membrane, 0.3, 4, 0.3, INSIDE)
    same(spikes, spiking.fire(membrane, 0.3, 4, 0.3, INSIDE)[0])
    same(kept, spiking.fire(membrane, 0.3, 4, 0.3, INSIDE)[1])


LAYOUTS = {
    'contiguous': lambda x: x,
    'channels_last': lambda x: x.to(memory_format=torch.channels_last),
    'transposed': lambda x: x.transpose(0, 1),
    'swapped within': lambda x: x.mT,
    'with gaps': lambda x: x[:, :, ::2],
    'expanded': lambda x: x[1:, :1].expand(-1, 3, -1, -1),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_layouts(interpreted, layout):
    """What fills its memory keeps its strides; a gradient may come in others."""
    membrane = LAYOUTS[layout](torch.randn(3, 4, 4, 4) * 3)
    spikes, kept = interpreted.neuron.fire(membrane, 0.3, 4, 0.3, INSIDE)
    expected, expected_kept = spiking.fire(membrane, 0.3, 4, 0.3, INSIDE)
    same(spikes, expected)
    same(kept, expected_kept)
    assert spikes.stride() == kept.stride() == expected.stride()
    for grad in (torch.randn(membrane.shape), torch.ones(()).expand_as(membrane)):
        same(
            interpreted.neuron.fire_backward(grad, kept, 0.3, 0.3, INSIDE),
            spiking.fire_backward(grad, kept, 0.3, 0.3, INSIDE),
        )
    spikes = interpreted.time_steps.integrate_and_fire(membrane, 1, 0.3, 4, 1.0, 0.3)
    same(spikes, expected)
    step = torch.rand(len(membrane)) + 0.1
    found, expected = interpreted.lsq.quantize(membrane, step, -2, 1), lsq.quantize(membrane, step, -2, 1)
    same(found, expected)
    grad = torch.randn(membrane.shape)
    found = interpreted.lsq.quantize_backward(grad, membrane, step, -2, 1)
    same(found[0], lsq.quantize_backward(grad, membrane, step, -2, 1)[0])


def in_steps(neuron, inputs):
    """The neuron's plain loop over time."""
    return SpikingNeuron.forward(neuron, inputs)


@PROPERTY
@given(
    steps=st.integers(1, 6),
    batch=st.integers(1, 3),
    threshold=CONSTANTS,
    max_spike_count=st.integers(1, 12),
    scale=CONSTANTS,
    decay=st.floats(0.1, 1),
    dtype=DTYPES,
    seed=SEEDS,
    rounding=ROUNDINGS,
)
def test_all_time_steps(interpreted, steps, batch, threshold, max_spike_count, scale, decay, dtype, seed, rounding):
    source = torch.Generator().manual_seed(seed)
    shape = (steps * batch, 300)  # many: what is carried over shows in few counts
    inputs = ((torch.randn(shape, generator=source) * 0.7 + 0.2) * threshold * max_spike_count).to(dtype)
    # Boundaries of the count, met in the first step and, where the membrane has been spent, in later ones.
    inputs[:, ::3] = (torch.randint(-1, 2 * max_spike_count, (len(inputs), 100), generator=source) * threshold / 2).to(
        dtype
    )
    inputs.requires_grad_()
    grad = torch.randn(shape, generator=source).to(dtype)
    neuron = IELIF(threshold, scale, max_spike_count, steps, decay, rounding)
    expected = neuron(inputs) if steps == 1 else in_steps(neuron, inputs)
    found = interpreted.time_steps.integrate_and_fire(inputs, steps, threshold, max_spike_count, decay, scale, rounding)
    same(found, expected)
    wanted = torch.autograd.grad(expected, inputs, grad)[0]
    same(torch.autograd.grad(found, inputs, grad, retain_graph=True)[0], wanted)
    same(torch.autograd.grad(found, inputs, grad, create_graph=True)[0], wanted)


def test_a_gradient_through_time_can_be_differentiated(interpreted):
    neuron = IELIF(0.5, 0.25, 4, 3, 0.7)
    inputs = torch.randn(6, 5, requires_grad=True)
    weight = torch.randn(6, 5)

    def second(run):
        grad = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
        (first,) = torch.autograd.grad(run(inputs), inputs, grad, create_graph=True)
        return torch.autograd.grad(first, grad, weight)[0]

    found = second(lambda x: interpreted.time_steps.integrate_and_fire(x, 3, 0.5, 4, 0.7, 0.25))
    torch.testing.assert_close(found, second(lambda x: in_steps(neuron, x)))
    assert found.abs().sum() > 0


def test_what_is_not_finite_in_time(interpreted):
    inputs = torch.tensor([math.inf, -math.inf, math.nan, 1.0, 1.0, 1.0, math.nan, 1.0]).view(8, 1).requires_grad_()
    expected = in_steps(IELIF(0.5, 0.5, 4, 2), inputs)
    found = interpreted.time_steps.integrate_and_fire(inputs, 2, 0.5, 4, 1.0, 0.5)
    same(found, expected)
    grad = torch.ones(8, 1)
    same(torch.autograd.grad(found, inputs, grad)[0], torch.autograd.grad(expected, inputs, grad)[0])


@PROPERTY
@given(
    shape=st.sampled_from([(1, 1), (3, 5), (4, 2, 3, 3), (3, 1, 5, 5)]),
    bits=st.sampled_from([2, 3, 4, 8]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_weights_and_gradients_of_the_quantizer(interpreted, shape, bits, dtype, seed):
    source = torch.Generator().manual_seed(seed)
    low, high = quant_range(bits)
    step = (torch.rand(shape[0], generator=source) * 0.2 + 0.05).to(dtype)
    weight = torch.randn(shape, generator=source) * high * step.float().view(-1, *[1] * (len(shape) - 1))
    # A part of the weights lies on the boundaries of integers and of the range.
    halves = torch.randint(2 * low - 2, 2 * high + 3, shape, generator=source) / 2
    on_boundary = torch.rand(shape, generator=source) < 0.3
    weight = torch.where(on_boundary, halves * step.float().view(-1, *[1] * (len(shape) - 1)), weight).to(dtype)
    grad = torch.randn(shape, generator=source).to(dtype)

    found = interpreted.lsq.quantize(weight, step, low, high)
    expected = lsq.quantize(weight, step, low, high)
    same(found, expected)
    assert torch.equal(found.signbit(), expected.signbit())

    of_weight, of_step = interpreted.lsq.quantize_backward(grad, weight, step, low, high)
    expected_of_weight, expected_of_step = lsq.quantize_backward(grad, weight, step, low, high)
    same(of_weight, expected_of_weight)
    # Sums in another order differ by a rounding of what was added, which is more than the sum where terms cancel.
    ratio = weight.double() / step.double().view(-1, *[1] * (len(shape) - 1))
    clipped = ratio.clamp(low, high).round()
    slope = torch.where((ratio >= low) & (ratio <= high), clipped - ratio, clipped)
    added = (grad.double() * slope).abs().flatten(1).sum(1) / math.sqrt(weight.numel() * high)
    tolerance = 1e-6 if dtype is torch.float32 else 2 * torch.finfo(dtype).eps
    assert ((of_step.double() - expected_of_step.double()).abs() <= tolerance * added).all()


def test_channels_of_more_than_one_block(interpreted):
    weight, step, grad = torch.randn(2, 1030), torch.tensor([0.1, 0.3]), torch.randn(2, 1030)
    same(interpreted.lsq.quantize(weight, step, -8, 7), lsq.quantize(weight, step, -8, 7))
    found = interpreted.lsq.quantize_backward(grad, weight, step, -8, 7)
    expected = lsq.quantize_backward(grad, weight, step, -8, 7)
    same(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-7)


def test_weights_that_are_not_finite(interpreted):
    weight = torch.tensor([[math.nan, math.inf, -math.inf, 0.0, -0.0, -0.01]])
    step = torch.tensor([0.5])
    same(interpreted.lsq.quantize(weight, step, -8, 7), lsq.quantize(weight, step, -8, 7))
    for found, expected in zip(
        interpreted.lsq.quantize_backward(torch.ones_like(weight), weight, step, -8, 7),
        lsq.quantize_backward(torch.ones_like(weight), weight, step, -8, 7),
    ):
        same(found, expected)


@PROPERTY
@given(
    rounding=ROUNDINGS,
    max_spike_count=st.integers(1, 9),
    steps=st.integers(1, 4),
    threshold=st.sampled_from([0.25, 0.5, 1.0]),
    seed=SEEDS,
)
def test_spike_is_integer_is_count(interpreted, rounding, max_spike_count, steps, threshold, seed):
    """Membranes on multiples of half a threshold, fired by kernels."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, 'serves', lambda first, *others: found.append(first) or True)
        check_halves(rounding, max_spike_count, steps, threshold, torch.float32, seed)
    assert found
