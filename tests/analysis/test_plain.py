"""Fast paths against the plain path: the same spikes, the same gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_networks import membranes, trained

from qsdt_mm.analysis import plain
from qsdt_mm.models.neurons import functional
from qsdt_mm.models.quantization import lsq


def both(function, reference, *inputs):
    """Values and gradients of two functions of tensors."""
    results = []
    for f in (function, reference):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = f(*leaves)
        torch.manual_seed(1)
        results.append((out.detach(), torch.autograd.grad(out, leaves, torch.randn_like(out))))
    return results


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    threshold=st.sampled_from([0.25, 0.3, 1.0, 1.7]),
    levels=st.sampled_from([1, 4, 200]),
    scale=st.sampled_from([0.25, 0.7, 1.0]),
    seed=st.integers(0, 999),
    rounding=st.sampled_from(functional.ROUNDINGS),
)
def test_neuron(threshold, levels, scale, seed, rounding):
    torch.manual_seed(seed)
    membrane = torch.randn(300).double() * levels * threshold
    membrane[:40] = (torch.randint(-1, 2 * levels + 2, (40,)) / 2 * threshold).double()  # at the thresholds
    (spikes, (grad,)), (wanted, (wanted_grad,)) = both(
        lambda u: functional.scaled_spikes(u, threshold, levels, scale, rounding),
        lambda u: plain.scaled_spikes(u, threshold, levels, scale, rounding),
        membrane,
    )
    assert torch.equal(spikes, wanted)
    torch.testing.assert_close(grad, wanted_grad, rtol=1e-12, atol=0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(bits=st.sampled_from([2, 3, 4, 8]), seed=st.integers(0, 999))
def test_quantizer(bits, seed):
    torch.manual_seed(seed)
    weight, step = torch.randn(6, 5, 3, 3).double(), torch.rand(6).double() * 4 / 2**bits + 1e-3
    (value, grads), (wanted, wanted_grads) = both(
        lambda w, s: lsq.lsq_quantize(w, s, bits), lambda w, s: plain.lsq_quantize(w, s, bits), weight, step
    )
    torch.testing.assert_close(value, wanted, rtol=1e-14, atol=0)
    torch.testing.assert_close(grads, wanted_grads, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    'options',
    [
        dict(family='qsd'),
        dict(family='espike', time_steps=3, weight_bits=2),
        dict(family='espike-large', levels=8),
        dict(family='qsd', neuron=dict(type='LIF'), time_steps=2),
    ],
    ids=str,
)
def test_networks(options):
    model, image = trained(**options).double().train(), torch.randn(2, 3, 33, 47).double()
    state = {name: value.clone() for name, value in model.state_dict().items()}

    def step():
        model.load_state_dict(state)
        model.zero_grad()
        outputs = model(image)
        sum(out.square().mean() for out in outputs).backward()
        return outputs, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    outputs, grads = step()
    with plain.plain_path():
        wanted, wanted_grads = step()
    assert grads.keys() == wanted_grads.keys()
    torch.testing.assert_close(outputs, wanted, rtol=1e-6, atol=1e-9)
    # A bias before a norm has no gradient but rounding.
    zero = 1e-9 * max(grad.abs().max().item() for grad in wanted_grads.values())
    for name, grad in grads.items():
        largest = wanted_grads[name].abs().max().item()
        torch.testing.assert_close(
            grad, wanted_grads[name], rtol=1e-6, atol=1e-6 * largest + zero, msg=lambda m, n=name: f'{n}: {m}'
        )


@pytest.mark.parametrize('family', ['qsd', 'espike', 'espike-large'])
def test_spikes_of_networks_in_float32(family):
    """In evaluation, for the same membranes: neurons fire alike in both paths, unit by unit."""
    model, image = trained(family).eval(), torch.randn(2, 3, 33, 47)
    for name, membrane in membranes(model, image).items():
        if name.startswith('output'):
            continue
        neuron = model.get_submodule(name)
        spikes = neuron(membrane)
        with plain.plain_path():
            assert torch.equal(spikes, neuron(membrane)), name
