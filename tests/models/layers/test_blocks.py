"""Residual blocks."""

import pytest
import torch
from mmcv.cnn.bricks.drop import DropPath
from mmcv.cnn.bricks.scale import LayerScale
from torch import nn

from qsdt_mm.models import SpikeUnit
from qsdt_mm.models.layers import Block, DepthwiseSeparableConv, MembraneShortcut, SpikeDrivenSelfAttention, UnitFactory
from qsdt_mm.models.layers import blocks as zoo
from qsdt_mm.models.layers.blocks import downsampling


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


def factory(bits=4):
    return UnitFactory(dict(type='IELIF', threshold=0.25, scale=0.25), 4, 1, bits)


def test_the_shortcut_adds_the_branch():
    membrane = torch.randn(2, 3, 4, 4)
    shortcut = MembraneShortcut(Double(), 3)
    assert torch.equal(shortcut(membrane), membrane + 2 * membrane)
    assert not list(shortcut.parameters())


def test_the_gain_is_per_channel():
    membrane = torch.randn(2, 3, 4, 4)
    shortcut = MembraneShortcut(Double(), 3, layer_scale=1e-6)
    (gain,) = shortcut.parameters()
    assert gain.tolist() == pytest.approx([1e-6] * 3)
    with torch.no_grad():
        gain.copy_(torch.tensor([0.0, 1.0, -0.5]))
    expected = membrane + gain.view(3, 1, 1) * (2 * membrane)
    assert torch.equal(shortcut(membrane), expected)


def test_a_gain_of_zero_is_still_a_gain():
    """0.0 is a value; only None switches the layer scale off."""
    assert [p.tolist() for p in MembraneShortcut(Double(), 2, layer_scale=0.0).parameters()] == [[0.0, 0.0]]


def test_drop_path_drops_whole_images_in_training_only():
    membrane = torch.ones(400, 1, 2, 2)
    shortcut = MembraneShortcut(Double(), 1, drop_path=0.25)
    out = shortcut.train()(membrane)
    # Dropped: the shortcut alone. Kept: the branch, scaled so that the mean stays.
    kept = 1 + 2 / 0.75
    assert sorted(set(out.flatten().tolist())) == pytest.approx([1, kept])
    assert (out.flatten(1) == out[:, 0, 0, :1]).all()
    assert (out[:, 0, 0, 0] == 1).float().mean().item() == pytest.approx(0.25, abs=0.08)
    assert (shortcut.eval()(membrane) == 3).all()


def test_a_block_is_its_shortcuts_in_turn():
    membrane = torch.randn(2, 3, 4, 4)
    block = Block([Double(), Double()], 3, 0.0)
    assert torch.equal(block(membrane), (membrane + 2 * membrane) + 2 * (membrane + 2 * membrane))


def synapses(module):
    """Kernel, channels, groups and bias of the convolutions, in order."""
    return [
        (m.kernel_size[0], m.in_channels, m.out_channels, m.groups, m.bias is not None)
        for m in module.modules()
        if isinstance(m, nn.Conv2d)
    ]


def test_qsd_blocks_are_those_of_the_paper():
    conv_block = zoo.qsd_conv_block(factory(), 8, 4, 0.0, 1e-6)
    assert synapses(conv_block) == [
        (1, 8, 16, 1, False),
        (7, 16, 16, 16, False),
        (1, 16, 8, 1, False),
        (3, 8, 32, 1, False),
        (3, 32, 8, 1, False),
    ]
    assert len([m for m in conv_block.modules() if isinstance(m, SpikeUnit)]) == 4
    assert any(isinstance(m, DepthwiseSeparableConv) for m in conv_block.modules())
    attention, mlp = zoo.qsd_attention_block(factory(), 8, 4, 0.0, 1e-6)
    rep_conv = [(1, 8, 8, 1, False), (3, 8, 8, 8, False), (1, 8, 8, 1, False)]
    assert synapses(attention) == rep_conv * 4
    assert synapses(mlp) == [(1, 8, 32, 1, True), (1, 32, 8, 1, True)]
    assert attention.gain.weight.numel() == mlp.gain.weight.numel() == 8


def test_espike_blocks_are_those_of_the_paper():
    conv_block = zoo.espike_conv_block(factory(32), 8, 4, 0.0, None)
    separable = [(1, 8, 16, 1, False), (7, 16, 16, 16, False), (1, 16, 8, 1, False)]
    assert synapses(conv_block) == [*separable, (3, 8, 32, 1, False), (3, 32, 8, 1, False)]
    assert len([m for m in conv_block.modules() if isinstance(m, SpikeUnit)]) == 5
    separable, attention, mlp = zoo.espike_attention_block(factory(32), 8, 4, 0.0, None)
    assert synapses(separable) == [(1, 8, 16, 1, False), (3, 16, 16, 16, False), (1, 16, 8, 1, False)]
    assert isinstance(attention.branch, SpikeDrivenSelfAttention)
    assert synapses(attention) == [(1, 8, 8, 1, False)] * 2 + [(1, 8, 32, 1, False), (1, 32, 8, 1, False)]
    assert synapses(mlp) == [(1, 8, 32, 1, True), (1, 32, 8, 1, True)]


def test_large_espike_blocks_are_those_of_the_paper():
    (conv,) = zoo.espike_large_conv_block(factory(32), 8, 4, 0.0, 1e-6)
    assert synapses(conv) == [(3, 8, 32, 1, True), (3, 32, 8, 1, True)]
    attention, mlp = zoo.espike_large_attention_block(factory(32), 8, 4, 0.0, 1e-6)
    assert synapses(attention) == [(1, 8, 12, 1, False), (1, 12, 8, 1, False)] * 4
    assert attention.branch.product.scale == 0.125
    assert synapses(mlp) == [(1, 8, 32, 1, True), (1, 32, 8, 1, True)]
    assert attention.gain.weight.numel() == mlp.gain.weight.numel() == 8
    assert not isinstance(conv.gain, LayerScale)


@pytest.mark.parametrize('layer_scale', [None, 1e-6])
def test_the_pointwise_branch_comes_first_and_is_always_kept_whole(layer_scale):
    block = zoo.espike_large_attention_block(factory(32), 8, 4, 0.5, layer_scale, pointwise_branch=True)
    branch, *others = block
    assert synapses(branch) == [(1, 8, 8, 1, False)] * 2
    assert [isinstance(s.gain, LayerScale) for s in block] == [False] + [layer_scale is not None] * 2
    assert [isinstance(s.drop_path, DropPath) for s in block] == [False, True, True]
    membrane = torch.randn(2, 8, 3, 3)
    conv1, norm1, conv2, norm2 = branch.branch.synapse
    expected = membrane + norm2(conv2(norm1(conv1(branch.branch.neuron(membrane)))))
    assert torch.equal(branch(membrane), expected)


def test_downsampling_has_a_neuron_unless_it_encodes_the_image():
    stem, later = downsampling(factory(), 3, 8, 7, 2, True), downsampling(factory(), 8, 16, 3, 1, False)
    assert stem.neuron is None and later.neuron is not None
    assert synapses(stem) == [(7, 3, 8, 1, True)] and synapses(later) == [(3, 8, 16, 1, True)]
    assert stem(torch.randn(1, 3, 9, 12)).shape == (1, 8, 5, 6)
    assert later(torch.randn(1, 8, 5, 6)).shape == (1, 16, 5, 6)
