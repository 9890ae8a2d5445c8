"""Silent channels for the sake of 8-bit kernels: the same bits, and widths that kernels like."""

import pytest
import torch
from deployed import KINDS, kind, plan_of, shown
from torch.utils._pytree import tree_leaves

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.deploy.padding import padded
from qsdt_mm.deploy.steps import Convolve


def wide():
    """A network of widths beside multiples of 16."""
    arch = dict(family='espike', widths=(12, 24, 24, 40, 40), depths=(1, 1, 1, 1, 1), num_heads=2, layer_scale=0.5)
    torch.manual_seed(0)
    return SpikeDrivenTransformer(arch, weight_bits=32).eval()


def assert_same_bits(found, wanted):
    for a, b in zip(tree_leaves(found), tree_leaves(wanted), strict=True):
        assert torch.equal(a, b)


def shapes(deployed):
    return [tuple(step.weight.shape) for step in deployed.steps if isinstance(step, Convolve)]


@pytest.mark.parametrize('name', ['qsd', 'espike', 'large', 'film'])
def test_bits_stay_the_same_and_so_does_the_plan(name):
    network = kind(name)
    deployed, images = plan_of(network), shown(network, 2, seed=2)
    before = shapes(deployed)
    other = padded(deployed)
    assert_same_bits(other(images), deployed(images))
    assert_same_bits(padded(deployed.with_spikes())(images), other(images))
    assert shapes(deployed) == before
    assert shapes(padded(other)) == shapes(other)
    assert name in KINDS


def test_depthwise_layers_and_narrow_membranes_get_multiples_of_sixteen():
    deployed = plan_of(wide())
    other, images = padded(deployed), shown(wide(), 2, seed=2)
    assert_same_bits(other(images), deployed(images))
    depthwise = [s for s in other.steps if isinstance(s, Convolve) and s.conv_args['groups'] > 1]
    assert depthwise and all(len(step.weight) % 16 == 0 == step.conv_args['groups'] % 16 for step in depthwise)
    assert shapes(other) != shapes(deployed)


def test_what_is_put_out_keeps_its_channels():
    deployed = plan_of(wide())
    images = shown(wide(), 1, seed=2)
    for found, wanted in zip(tree_leaves(padded(deployed)(images)), tree_leaves(deployed(images)), strict=True):
        assert found.shape == wanted.shape
