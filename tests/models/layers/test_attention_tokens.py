"""Attention that is scaled by its number of tokens: the same at every size of image, in every form of a network."""

import pytest
import torch
from deployed import pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from trained_networks import assert_same_bits, membranes, trained

from qsdt_mm import IELIF, SpikeDrivenTransformer
from qsdt_mm.deploy import plan
from qsdt_mm.inference import ExactAttention, convert
from qsdt_mm.models.layers.attention import LinearAttention, PerSlotAttention, SpikeDrivenSelfAttention

OPTIONS = [
    dict(family='qsd'),
    dict(family='espike', time_steps=2),
    dict(family='espike-large', max_spike_count=2),
    dict(family='qsd', attention='per_slot'),
]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(tokens=st.integers(1, 9), repeats=st.integers(1, 7), seed=st.integers(0, 999))
def test_tokens_that_are_there_several_times_count_once(tokens, repeats, seed):
    counts = torch.randint(0, 5, (3, 2, 2, 3, tokens), generator=torch.Generator().manual_seed(seed)).double()
    neurons = tuple(IELIF(scale=1.0) for _ in range(3))
    usual = LinearAttention(0.5)(*counts)
    for make in (LinearAttention(0.5, tokens), ExactAttention(0.5, (4,) * 3, True, usual_tokens=tokens)):
        torch.testing.assert_close(make(*counts), usual)
        torch.testing.assert_close(make(*counts.repeat(1, 1, 1, 1, repeats)), usual.repeat(1, 1, 1, repeats))
    slots = PerSlotAttention(0.5, neurons, tokens)
    torch.testing.assert_close(slots(*counts.repeat(1, 1, 1, 1, repeats))[..., :tokens], slots(*counts))


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_integer_and_spike_have_the_same_bits_and_the_float_network_agrees(options):
    model = trained(attention_tokens=5, **options)
    assert all(m.product.usual_tokens == 5 for m in model.modules() if isinstance(m, SpikeDrivenSelfAttention))
    for size in (32, 64):
        image = torch.randn(2, 3, size, size)
        integer, spike = (convert(model, mode) for mode in ('integer', 'spike'))
        assert_same_bits(membranes(integer, image), membranes(spike, image))
        with torch.no_grad():
            plain, counted = model(image), integer(image)
        assert all((a - b).abs().median() < 1e-4 for a, b in zip(plain, counted))


def test_with_as_many_tokens_as_usual_it_is_the_published_one():
    image = torch.randn(1, 3, 64, 64)
    usual, scaled = trained(), trained(attention_tokens=16)  # a grid of 4 x 4
    scaled.load_state_dict(usual.state_dict())
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(usual(image), scaled(image)))
        assert any(not torch.equal(a, b) for a, b in zip(usual(image[..., :32]), scaled(image[..., :32])))


def test_a_plan_knows_its_size():
    """It is that of a network whose attention has the factor of that size."""
    scaled, other = trained(attention_tokens=3), trained()
    other.load_state_dict(scaled.state_dict())
    for module in other.modules():
        if isinstance(module, SpikeDrivenSelfAttention):
            module.product.scale *= 3 / 6  # 32 x 48 px: a grid of 2 x 3
    mean, std = torch.tensor([120.0]), torch.tensor([58.0])
    made = [plan(net, pictures(3, size=(32, 48)), mean=mean, std=std, run=lambda m, x: m(x)) for net in (scaled, other)]
    images = pictures(2, size=(32, 48), seed=3)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(*(one(images) for one in made)))


@pytest.mark.parametrize('tokens', [0, -1, 2.5, 'all'])
def test_a_number_that_is_none_is_one_line(tokens):
    with pytest.raises(ValueError, match='attention_tokens='):
        trained(attention_tokens=tokens)


def test_new_networks_are_set_for_that_many_tokens():
    few, many = (trained_new(tokens) for tokens in (16, 4096))
    assert few > many


def trained_new(tokens):
    torch.manual_seed(0)
    arch = dict(family='qsd', widths=(4, 8, 8, 16, 24), depths=(0, 0, 0, 1, 0), num_heads=4)
    model = SpikeDrivenTransformer(arch, attention_tokens=tokens)
    (attention,) = (m for m in model.modules() if isinstance(m, SpikeDrivenSelfAttention))
    assert isinstance(attention.query.norm, nn.BatchNorm2d)
    return attention.query.norm.weight[0].item()
