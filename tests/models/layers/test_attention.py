"""Spike-driven attention."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsdt_mm.models.layers import UnitFactory, linear_attention
from qsdt_mm.models.layers.attention import (
    USUAL_TOKENS,
    pointwise_attention,
    pointwise_chain_attention,
    rep_conv_attention,
)

PROPERTY = settings(max_examples=80, deadline=None, derandomize=True)
QSD = dict(type='IELIF', threshold=0.25, scale=0.25)
ESPIKE = dict(type='IELIF', threshold=1.0)
KINDS = [(rep_conv_attention, QSD, 4), (pointwise_attention, ESPIKE, 32), (pointwise_chain_attention, ESPIKE, 32)]
IDS = ['qsd', 'espike', 'espike-large']


def make(maker, neuron, bits, channels=16, heads=4, time_steps=1):
    attention = maker(UnitFactory(neuron, 4, time_steps, bits), channels, heads)
    for module in attention.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after some training
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.7, 1.3)
            torch.nn.init.uniform_(module.bias, -0.2, 0.4)
    return attention.eval()


@PROPERTY
@given(
    widths=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    tokens=st.integers(1, 40),
    max_spike_count=st.integers(1, 8),
    seed=st.integers(0, 999),
)
def test_both_orders_are_equal_on_counts(widths, tokens, max_spike_count, seed):
    source = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randint(0, max_spike_count + 1, (2, 3, width, tokens), generator=source).float()
        for width in (widths[0], widths[0], widths[1])
    )
    out = linear_attention(query, key, value)
    assert torch.equal(out, (value @ key.mT) @ query)
    assert torch.equal(out, value @ (key.mT @ query))
    # Token by token: sum over m of (q_l . k_m) v_m, in integers.
    assert torch.equal(out.long(), torch.einsum('bhcl,bhcm,bhvm->bhvl', query.long(), key.long(), value.long()))


@pytest.mark.parametrize(('key_width', 'value_width', 'tokens'), [(8, 8, 196), (8, 32, 196), (32, 32, 4), (8, 32, 4)])
def test_the_order_is_the_cheaper_one(key_width, value_width, tokens):
    shapes = []

    class Recorder(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func in (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__):
                shapes.append(tuple(result.shape[-2:]))
            return result

    query, key, value = (torch.ones(1, 1, width, tokens) for width in (key_width, key_width, value_width))
    with Recorder():
        linear_attention(query, key, value)
    through_state = tokens * key_width * value_width * 2
    through_tokens = tokens**2 * (key_width + value_width)
    cheap = (value_width, key_width) if through_state <= through_tokens else (tokens, tokens)
    assert shapes == [cheap, (value_width, tokens)]


def by_hand(attention, membrane, heads, scale):
    """The formula of the papers, head by head and token by token, with the module's own units."""
    unit_q, unit_k, unit_v = attention.query, attention.key, attention.value
    spikes = unit_q.neuron(membrane)
    query, key, value = (
        neuron(unit.norm(unit.synapse(spikes))).flatten(2)
        for unit, neuron in (
            (unit_q, attention.query_neuron),
            (unit_k, attention.key_neuron),
            (unit_v, attention.value_neuron),
        )
    )
    per_head = []
    for q, k, v in zip(query.chunk(heads, 1), key.chunk(heads, 1), value.chunk(heads, 1), strict=True):
        similarity = torch.einsum('ncl,ncm->nlm', q, k)
        per_head.append(torch.einsum('nlm,ncm->ncl', similarity, v) * scale)
    attended = torch.cat(per_head, 1).unflatten(2, membrane.shape[2:])
    projection = attention.projection
    return projection.norm(projection.synapse(projection.neuron(attended)))


@pytest.mark.parametrize('heads', [1, 2, 8])
@pytest.mark.parametrize('size', [(2, 3), (7, 5)])
def test_qsd_attention_is_the_formula(heads, size):
    attention = make(*KINDS[0], heads=heads).double()
    membrane = torch.randn(2, 16, *size, dtype=torch.float64)
    torch.testing.assert_close(attention(membrane), by_hand(attention, membrane, heads, 0.25), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('heads', [1, 2, 8])
@pytest.mark.parametrize('size', [(2, 3), (7, 5)])
def test_espike_attention_is_the_formula(heads, size):
    attention = make(*KINDS[1], heads=heads).double()
    membrane = torch.randn(2, 16, *size, dtype=torch.float64)
    expected = by_hand(attention, membrane, heads, 2 * (16 / heads) ** -0.5)
    torch.testing.assert_close(attention(membrane), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('heads', [1, 2, 8])
@pytest.mark.parametrize('size', [(2, 3), (7, 5)])
def test_the_large_sizes_attention_is_the_formula(heads, size):
    attention = make(*KINDS[2], heads=heads).double()
    membrane = torch.randn(2, 16, *size, dtype=torch.float64)
    expected = by_hand(attention, membrane, heads, 0.125)
    torch.testing.assert_close(attention(membrane), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(('maker', 'neuron', 'bits'), KINDS, ids=IDS)
def test_query_key_and_value_listen_to_the_same_spikes(maker, neuron, bits):
    attention = make(maker, neuron, bits)
    for module in (attention, copy.deepcopy(attention)):
        assert module.query.neuron is module.key.neuron is module.value.neuron
        others = (module.query_neuron, module.key_neuron, module.value_neuron, module.projection.neuron)
        assert len({id(n) for n in (*others, module.query.neuron)}) == 5
        calls = []
        module.query.neuron.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        module(torch.randn(1, 16, 4, 4))
        assert len(calls) == 1  # fires once for all three


def test_spikes_after_qsd_attention_are_worth_twice():
    attention = make(*KINDS[0])
    assert (attention.projection.neuron.threshold, attention.projection.neuron.scale) == (0.25, 0.5)
    assert attention.query.neuron.scale == attention.value_neuron.scale == 0.25


def test_espike_values_are_four_times_as_wide():
    attention = make(*KINDS[1])
    assert attention.value.synapse.out_channels == 64 and attention.key.synapse.out_channels == 16
    assert attention.projection.synapse.in_channels == 64
    assert attention.projection.neuron.scale == 0.25


@pytest.mark.parametrize(('maker', 'neuron', 'bits'), KINDS, ids=IDS)
def test_images_do_not_mix(maker, neuron, bits):
    attention = make(maker, neuron, bits).double()
    membrane = torch.randn(3, 16, 3, 4, dtype=torch.float64)
    alone = torch.cat([attention(m[None]) for m in membrane])
    torch.testing.assert_close(attention(membrane), alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(('maker', 'neuron', 'bits'), KINDS, ids=IDS)
@pytest.mark.parametrize('heads', [3, 32, 0, -4, 2.0, '4'])
def test_heads_must_divide_the_channels(maker, neuron, bits, heads):
    with pytest.raises(ValueError, match=r'^num_heads=.* expected a divisor of the 16 channels'):
        maker(UnitFactory(neuron, 4, 1, bits), 16, heads)


@pytest.mark.parametrize(('maker', 'neuron', 'bits'), KINDS, ids=IDS)
@pytest.mark.parametrize('channels', [64, 512])
@pytest.mark.parametrize('kind', ['as published', 'ReLU', 'LIF'])
def test_first_gains_aim_at_half_of_what_the_neuron_counts(maker, neuron, bits, channels, kind):
    """E[scale q k^T v] over independent normal membranes, in closed form from the mean output of one neuron."""
    config = neuron if kind == 'as published' else dict(type=kind)
    attention = maker(UnitFactory(config, 4, 1, bits), channels, 8)
    gains = {unit.norm.weight.unique().item() for unit in (attention.query, attention.key, attention.value)}
    assert len(gains) == 1
    (gain,) = gains
    mean = attention.query_neuron(gain * torch.randn(200_000)).mean().item()
    expected = attention.product.scale * USUAL_TOKENS * channels / 8 * mean**3
    after = attention.projection.neuron
    half = 1.0 if kind == 'ReLU' else after.max_spike_count * after.threshold / 2
    assert 0 < gain <= 1
    if gain < 1:
        assert expected == pytest.approx(half, rel=0.1)
    else:
        assert expected < 1.1 * half
