"""Neurons as modules: time, state, constants."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsdt_mm import IELIF, LIF
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.models.neurons.functional import integrate_and_fire_step, spike_count
from qsdt_mm.ops.spiking import ROUNDINGS

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)


def straight_through(value, gradient_path):
    """``value`` forward, the gradient of ``gradient_path`` backward; exact, since x - x is 0."""
    return value.detach() + (gradient_path - gradient_path.detach())


def reference_ielif(currents, threshold, scale, max_spike_count, decay, rounding):
    """The neuron over time, ``(T, ...)``, in plain operations that autograd differentiates by itself."""
    left, outputs = torch.zeros_like(currents[0]), []
    for current in currents:
        membrane = left + current
        # Written out: the slope of torch.clamp at its bounds differs between versions of torch.
        inside = (membrane >= 0) & (membrane <= max_spike_count * threshold)
        ramp = torch.where(inside, membrane, membrane.detach()) / threshold
        ratio = membrane / threshold
        rounded = ratio.round() if rounding == 'half_even' else (ratio + 0.5).floor()
        count = straight_through(rounded.clamp(0, max_spike_count), ramp)
        left = decay * (membrane - count * threshold)
        outputs.append(count * scale)
    return torch.stack(outputs)


def reference_lif(currents, threshold, scale, tau, reset, alpha):
    """LIF over time; the reset itself carries no gradient."""
    potential, outputs = torch.full_like(currents[0], reset), []
    for current in currents:
        potential = potential + (current - (potential - reset)) / tau
        spike = straight_through((potential >= threshold).to(potential), torch.sigmoid(alpha * (potential - threshold)))
        potential = torch.where(spike.detach() > 0, torch.full_like(potential, reset), potential)
        outputs.append(spike * scale)
    return torch.stack(outputs)


def both_ways(neuron, reference, currents, upstream):
    """Outputs and gradients of a neuron on folded input, and of its reference on ``(T, N)``."""
    folded = currents.flatten(0, 1).clone().requires_grad_()
    plain = currents.clone().requires_grad_()
    out, expected = neuron(folded), reference(plain)
    out.backward(upstream.flatten(0, 1))
    expected.backward(upstream)
    return (out, folded.grad), (expected.flatten(0, 1), plain.grad.flatten(0, 1))


@PROPERTY
@given(
    time_steps=st.integers(1, 6),
    batch=st.integers(1, 3),
    max_spike_count=st.integers(1, 8),
    threshold=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    scale=st.sampled_from([0.125, 0.25, 0.5, 1.0]),
    decay=st.sampled_from([1.0, 0.5, 0.25]),
    rounding=st.sampled_from(ROUNDINGS),
    seed=st.integers(0, 10_000),
)
def test_ielif_is_the_plain_loop_exactly_on_a_dyadic_grid(
    time_steps, batch, max_spike_count, threshold, scale, decay, rounding, seed
):
    """All numbers fit float64 without rounding here, so values and gradients must be equal to the last bit."""
    source = torch.Generator().manual_seed(seed)
    shape = (time_steps, batch, 5)
    currents = torch.randint(-32, 16 * (max_spike_count + 2), shape, generator=source).double() * threshold / 16
    upstream = torch.randint(-8, 9, shape, generator=source).double()
    neuron = IELIF(threshold, scale, max_spike_count, time_steps, decay, rounding)
    (out, grad), (expected, expected_grad) = both_ways(
        neuron, lambda x: reference_ielif(x, threshold, scale, max_spike_count, decay, rounding), currents, upstream
    )
    assert torch.equal(out, expected)
    assert torch.equal(grad, expected_grad)


@PROPERTY
@given(
    time_steps=st.integers(1, 6),
    max_spike_count=st.integers(1, 8),
    threshold=st.floats(0.1, 3),
    decay=st.floats(0.1, 1),
    rounding=st.sampled_from(ROUNDINGS),
    seed=st.integers(0, 10_000),
)
def test_ielif_is_the_plain_loop_on_real_numbers(time_steps, max_spike_count, threshold, decay, rounding, seed):
    source = torch.Generator().manual_seed(seed)
    currents = torch.randn(time_steps, 2, 7, dtype=torch.float64, generator=source) * 2 * threshold
    upstream = torch.randn(currents.shape, dtype=torch.float64, generator=source)
    neuron = IELIF(threshold, None, max_spike_count, time_steps, decay, rounding)
    (out, grad), (expected, expected_grad) = both_ways(
        neuron,
        lambda x: reference_ielif(x, threshold, 1 / max_spike_count, max_spike_count, decay, rounding),
        currents,
        upstream,
    )
    assert torch.equal(out, expected)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-10, atol=1e-12)


@PROPERTY
@given(
    time_steps=st.integers(1, 6),
    threshold=st.floats(0.2, 2),
    tau=st.floats(1, 8),
    reset=st.floats(-1, 0.1),
    alpha=st.floats(1, 8),
    seed=st.integers(0, 10_000),
)
def test_lif_is_the_plain_loop(time_steps, threshold, tau, reset, alpha, seed):
    source = torch.Generator().manual_seed(seed)
    currents = torch.randn(time_steps, 2, 7, dtype=torch.float64, generator=source) * 3
    upstream = torch.randn(currents.shape, dtype=torch.float64, generator=source)
    neuron = LIF(threshold, 0.5, time_steps, tau, reset, 'sigmoid', alpha)
    (out, grad), (expected, expected_grad) = both_ways(
        neuron, lambda x: reference_lif(x, threshold, 0.5, tau, reset, alpha), currents, upstream
    )
    assert torch.equal(out, expected)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-12)


def test_gradients_cross_time_steps():
    """A later output depends on an earlier input through the membrane; a neuron that forgot it would give 0."""
    currents = torch.tensor([[0.25], [0.5]], requires_grad=True)
    IELIF(1.0, 1.0, 4, 2, decay=0.5)(currents)[1].sum().backward()
    # dn_2/du_2 * du_2/dh_1 * dh_1/du_1 = 1 * 1 * 0.5 * (1 - 1): the straight-through reset takes all of it away,
    assert currents.grad[0].item() == 0
    currents = torch.tensor([[-0.25], [0.5]], requires_grad=True)
    IELIF(1.0, 1.0, 4, 2, decay=0.5)(currents)[1].sum().backward()
    # but below 0 the count has no slope, and the membrane passes the gradient on.
    assert currents.grad[0].item() == 0.5


@pytest.mark.parametrize('decay', [1.0, 0.5])
def test_forward_is_single_steps_with_carried_state(decay):
    neuron = IELIF(0.25, 0.5, 4, time_steps=3, decay=decay)
    currents = torch.randn(6, 5)
    carried, steps = None, []
    for current in currents.unflatten(0, (3, 2)):
        count, carried = integrate_and_fire_step(current, carried, 0.25, 4, decay)
        steps.append(count)
    assert torch.equal(neuron(currents), torch.cat(steps) * 0.5)


@pytest.mark.parametrize(
    'neuron',
    [IELIF(time_steps=4), IELIF(0.25, 0.5, 2, 4, 0.5), LIF(time_steps=4), LIF(0.5, 2.0, 4, 1.5, -0.5)],
    ids=repr,
)
def test_four_steps_at_once_are_four_steps_one_by_one(neuron):
    """With the membrane carried by hand; values, and gradients through time."""
    currents = torch.randn(4, 3, 5, dtype=torch.float64) * 1.5
    upstream = torch.randn_like(currents)
    folded, single = currents.flatten(0, 1).requires_grad_(), currents.clone().requires_grad_()
    carried, outputs = None, []
    for current in single:
        count, carried = neuron.step(current, carried)
        outputs.append(count * neuron.scale)
    at_once, one_by_one = neuron(folded), torch.stack(outputs)
    assert torch.equal(at_once.unflatten(0, (4, 3)), one_by_one)
    at_once.backward(upstream.flatten(0, 1))
    one_by_one.backward(upstream)
    assert torch.equal(folded.grad.unflatten(0, (4, 3)), single.grad)
    # Steps that know nothing of each other would give something else.
    assert not torch.equal(
        torch.stack([neuron.step(current, None)[0] for current in currents]) * neuron.scale, one_by_one
    )


@pytest.mark.parametrize('neuron', [IELIF(time_steps=2), LIF(time_steps=2)])
def test_no_state_between_calls(neuron):
    """Neither the order of batches nor their shape matters, and there is nothing to save."""
    first, other = torch.randn(4, 3) * 2, torch.randn(2, 7) * 2
    before = neuron(first)
    neuron(other)
    assert torch.equal(neuron(first), before)
    assert not neuron.state_dict() and not list(neuron.parameters())


@pytest.mark.parametrize('neuron', [IELIF(time_steps=2), LIF(time_steps=2)])
def test_training_leaves_nothing_for_evaluation(neuron):
    """Nor for another rank: there are no buffers, and no attribute changes."""
    before, currents = copy.deepcopy(vars(neuron)), torch.randn(4, 3, requires_grad=True)
    expected = neuron.eval()(currents)
    neuron.train()(currents * 3).sum().backward()
    assert torch.equal(neuron.eval()(currents), expected)
    neuron.train()
    assert vars(neuron) == before and not list(neuron.buffers())


@pytest.mark.parametrize('neuron', [IELIF(time_steps=2), LIF(time_steps=2)])
def test_samples_do_not_mix(neuron):
    """Time is the slow axis of the folded batch: sample i is rows i and N + i."""
    currents = torch.randn(2, 3, 5) * 2
    together = neuron(currents.flatten(0, 1)).unflatten(0, (2, 3))
    for i in range(3):
        assert torch.equal(neuron(currents[:, i]), together[:, i])


def test_one_time_step_takes_the_short_way_to_the_same_counts():
    neuron, currents = IELIF(0.5, max_spike_count=3), torch.randn(50) * 2
    assert torch.equal(neuron.count(currents), SpikingNeuron.count(neuron, currents))
    assert torch.equal(neuron.count(currents), spike_count(currents, 0.5, 3))


class OneMore(IELIF):
    """Fires once more than IELIF."""

    def step(self, inputs, carried):
        count, carried = super().step(inputs, carried)
        return count + 1, carried


@pytest.mark.parametrize('time_steps', [1, 2])
def test_a_step_of_ones_own_is_taken(time_steps, monkeypatch):
    """Also where a kernel could take all of them at once."""
    kernel = lambda inputs, *_: inputs * 0  # noqa: E731
    monkeypatch.setattr('qsdt_mm.ops.dispatch.find', lambda name, *_: kernel if name.startswith('integrate') else None)
    neuron, currents = OneMore(time_steps=time_steps), torch.randn(2 * time_steps, 5)
    assert (neuron(currents) >= neuron.scale).all() and (neuron.count(currents) >= 1).all()


def test_scale_defaults_to_one_over_d():
    assert [IELIF(max_spike_count=d).scale for d in (1, 4, 8)] == [1, 0.25, 0.125]


@pytest.mark.parametrize('neuron', [IELIF(0.25, 0.5, 3, 2, 0.5), LIF(0.5, 2.0, 2, 3.0, -0.5, 'atan', 2.0)])
def test_copies_and_pickles(neuron):
    currents = torch.randn(4, 9) * 2
    for twin in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert torch.equal(twin(currents), neuron(currents))
        assert repr(twin) == repr(neuron)


@pytest.mark.parametrize('neuron', [IELIF(time_steps=3), LIF(time_steps=3)])
def test_a_batch_that_does_not_divide_by_time_is_refused(neuron):
    with pytest.raises(ValueError, match=r'batch=4 .* multiple of time_steps=3'):
        neuron(torch.zeros(4, 2))


BAD = [
    (IELIF, 'threshold', 0),
    (IELIF, 'threshold', -1.0),
    (IELIF, 'threshold', math.nan),
    (IELIF, 'threshold', math.inf),
    (IELIF, 'threshold', '1'),
    (IELIF, 'scale', 0),
    (IELIF, 'max_spike_count', 0),
    (IELIF, 'max_spike_count', 2.5),
    (IELIF, 'max_spike_count', True),
    (IELIF, 'time_steps', 0),
    (IELIF, 'time_steps', '2'),
    (IELIF, 'decay', 0),
    (IELIF, 'decay', 1.5),
    (IELIF, 'decay', math.nan),
    (IELIF, 'decay', 'slow'),
    (LIF, 'tau', 0.5),
    (LIF, 'tau', 'x'),
    (LIF, 'tau', math.inf),
    (LIF, 'surrogate', 'relu'),
    (LIF, 'reset', 1.0),
    (LIF, 'reset', 'zero'),
    (LIF, 'reset', -math.inf),
    (LIF, 'alpha', 0),
    (LIF, 'time_steps', 1.0),
]


@pytest.mark.parametrize(('kind', 'argument', 'value'), BAD, ids=[f'{k.__name__}-{a}-{v}' for k, a, v in BAD])
def test_constants_out_of_range_are_refused(kind, argument, value):
    with pytest.raises(ValueError) as error:
        kind(**{argument: value})
    message = str(error.value)
    assert message.startswith(f'{argument}={value!r} ') and 'expected' in message
