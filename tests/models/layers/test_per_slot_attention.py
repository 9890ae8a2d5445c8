"""Attention per slot: by hand, its gradient, the networks that have it, their exact forms and their energy."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from trained_networks import assert_same_bits, membranes, trained

from qsdt_mm import IELIF, SpikeDrivenTransformer
from qsdt_mm.analysis import measure_energy
from qsdt_mm.analysis.unit_errors import unit_errors
from qsdt_mm.inference import ExactAttention, convert
from qsdt_mm.inference.slots import slots
from qsdt_mm.models.layers.attention import LinearAttention, PerSlotAttention, slots_with_gradient


def neurons(most):
    return tuple(IELIF(max_spike_count=most) for _ in range(3))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(most=st.integers(1, 6), tokens=st.sampled_from([2, 30]), seed=st.integers(0, 999))
def test_each_slot_has_its_own_product(most, tokens, seed):
    torch.manual_seed(seed)
    counts = torch.randint(0, most + 1, (3, 2, 2, 3, tokens)).double()
    expected = sum(v @ k.mT @ q for q, k, v in zip(*(slots(x, most) for x in counts)))
    attention = PerSlotAttention(0.5, neurons(most))
    torch.testing.assert_close(attention(*(counts / most)), 0.5 / most**3 * expected, rtol=1e-12, atol=1e-12)
    for spiking in (False, True):
        assert torch.equal(ExactAttention(1.0, (most,) * 3, spiking, per_slot=True)(*counts), expected)


@pytest.mark.parametrize('most', [1, 4])
def test_it_is_the_usual_product_where_no_count_is_above_one_and_never_more(most):
    counts = torch.randint(0, 2, (3, 2, 2, 3, 10)).double()
    spikes = counts / most
    torch.testing.assert_close(PerSlotAttention(0.5, neurons(most))(*spikes), LinearAttention(0.5)(*spikes))
    more = torch.randint(0, most + 1, (3, 2, 2, 3, 10)).double() / most
    assert (PerSlotAttention(0.5, neurons(most))(*more) <= LinearAttention(0.5)(*more) + 1e-12).all()


@pytest.mark.parametrize('most', [1, 3, 4])
def test_gradients_of_equal_slots_add_up_to_that_of_the_count(most):
    count = torch.arange(most + 1.0).requires_grad_()
    fired = slots_with_gradient(count, most)
    assert torch.equal(fired, torch.stack(list(slots(count.detach(), most))))
    (gradient,) = torch.autograd.grad(fired.sum(), count)
    assert gradient.tolist() == [0.5, *[1.0] * (most - 1), 0.5]


OPTIONS = [dict(family='qsd'), dict(family='espike', time_steps=2), dict(family='espike-large', max_spike_count=2)]


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_integer_and_spike_have_the_same_bits(options):
    model, image = trained(attention='per_slot', **options), torch.randn(2, 3, 32, 32)
    integer, spike = (convert(model, mode) for mode in ('integer', 'spike'))
    assert_same_bits(membranes(integer, image), membranes(spike, image))
    assert max(unit_errors(model, integer, lambda network: network(image)).values()) < 1e-4
    summed = trained(**options)
    assert summed.state_dict().keys() == model.state_dict().keys()
    assert not torch.equal(integer(image)[4], convert(summed, 'integer')(image)[4])


def test_exact_attention_agrees_with_the_trained_one():
    model = trained('espike', attention='per_slot')
    (name, attention), *_ = ((n, m) for n, m in model.named_modules() if isinstance(m, PerSlotAttention))
    exact = convert(model, 'spike').get_submodule(name)
    count = torch.randint(0, 5, (3, 2, 4, 4, 30)).float()
    scaled = (c * neuron.scale for c, neuron in zip(count, attention.neurons))
    torch.testing.assert_close(attention(*scaled), exact(*count), rtol=1e-5, atol=1e-6)


def test_it_trains_and_a_copy_has_its_own_neurons():
    model = trained(attention='per_slot').train()
    other = copy.deepcopy(model)
    parents = [m for m in other.modules() if hasattr(m, 'product')]
    assert parents and all(m.product.neurons[0] is m.query_neuron for m in parents)
    torch.manual_seed(1)  # statistics of one batch alone would take the sums' gradients away
    sum((out * torch.randn_like(out)).sum() for out in model(torch.randn(2, 3, 64, 64))).backward()
    for part in ('query', 'key', 'value'):
        gradients = [p.grad for n, p in model.named_parameters() if f'.{part}.synapse' in n and 'weight' in n]
        assert gradients and all(g.isfinite().all() for g in gradients) and any(g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize('product', [LinearAttention(0.5), PerSlotAttention(0.5, neurons(4))], ids=['summed', 'own'])
def test_the_rule_that_sets_new_norms_knows_the_mean_product(product):
    """Over all triples of outputs of one neuron, for one token and one channel."""
    outputs = torch.tensor([0.0, 0.0, 0.25, 0.75, 1.0]).double()
    triples = torch.cartesian_prod(outputs, outputs, outputs).view(-1, 3, 1, 1, 1)
    assert product(*triples.unbind(1)).mean().item() == pytest.approx(product.expected(outputs))


def test_energy_counts_each_slot_alone():
    model, images = trained(attention='per_slot'), torch.randn(1, 3, 32, 32)
    reports = {coding: measure_energy(model, [images], coding=coding) for coding in ('unary', 'bitwise')}
    exact, seen = convert(model, 'spike'), {}
    for name, module in exact.named_modules():
        if isinstance(module, ExactAttention):

            def count(module, args, name=name):
                (dk, tokens), dv = args[1].shape[-2:], args[2].shape[-2]
                first = 2 * dk * dv <= tokens * (dk + dv)
                left, last = (args[2], args[0]) if first else (args[1], args[2])
                rows = (dk, dv) if first else (tokens, tokens)
                seen[name] = int(left.sum()) * rows[0] + int(last.sum()) * rows[1]

            module.register_forward_pre_hook(count)
    with torch.no_grad():
        exact(images)
    for report in reports.values():
        rows = [row for row in report.layers if row.kind == 'attention']
        assert rows and all(row.sops == seen[row.name] and row.shifts == 0 for row in rows)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="attention='slots' is not allowed: expected summed or per_slot"):
        SpikeDrivenTransformer('qsd-8m', attention='slots')
    with pytest.raises(ValueError, match='unary: the network has attention per slot, of unary slots'):
        convert(trained(attention='per_slot'), 'spike', coding='bitwise')
    with pytest.raises(ValueError, match='expected spiking neurons with the same D on query, key and value'):
        PerSlotAttention(1.0, (IELIF(max_spike_count=2), IELIF(max_spike_count=3), nn.ReLU()))


def test_plans_refuse_it():
    from qsdt_mm.deploy import plan

    with pytest.raises(ValueError, match='its attention is per slot'):
        images = torch.randint(0, 256, (1, 3, 32, 32))
        plan(trained(attention='per_slot', out_indices=(4,)), images, run=lambda model, image: model(image))
