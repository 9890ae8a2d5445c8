"""Residual blocks: a membrane shortcut around branches made of units.

Convolution block and transformer block, from ``(N, C, H, W)`` to the same shape; every arrow is a membrane potential::

    x --+--> separable conv (C -> 2C -> C) ---(+)--+--> channel conv (C -> 4C -> C) ---(+)--> y
        |                                      |   |                                    |
        +--------------------------------------+   +------------------------------------+

    x --+--> attention (L = H * W tokens) ----(+)--+--> MLP (C -> 4C -> C) ------------(+)--> y
        |                                      |   |                                    |
        +--------------------------------------+   +------------------------------------+

E-SpikeFormer's transformer block has a separable convolution before attention; convolution blocks of its large sizes
have the channel convolution alone. ``(+)`` adds, after layer scale and stochastic depth (:class:`MembraneShortcut`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn.bricks.drop import DropPath
from mmcv.cnn.bricks.scale import LayerScale
from torch import Tensor, nn

from .attention import (
    SpikeDrivenSelfAttention,
    pointwise_attention,
    pointwise_chain_attention,
    rep_conv_attention,
)
from .norm_counters import has_hooks
from .norms import Residual
from .synapses import DepthwiseSeparableConv, PointwiseChain
from .unit import SpikeUnit, UnitFactory


class MembraneShortcut(nn.Module):
    """``x + drop_path(layer_scale * branch(x))``: the sum adds membrane potentials, never spikes.

    Args:
        branch: units from membrane to membrane.
        channels: width, for the layer scale.
        drop_path: rate of stochastic depth.
        layer_scale: first value of the layer scale, one per channel; None for none.

    >>> MembraneShortcut(nn.Identity(), channels=8, layer_scale=0.5)(torch.ones(1, 8, 4, 4)).unique().item()
    1.5
    """

    def __init__(
        self, branch: nn.Module, channels: int, drop_path: float = 0.0, layer_scale: float | None = None
    ) -> None:
        super().__init__()
        self.branch = branch
        self.gain = (
            nn.Identity()
            if layer_scale is None
            else LayerScale(channels, data_format='channels_first', scale=layer_scale)
        )
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, membrane: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape, in the type of the membrane or, if it is wider, of the branch."""
        last = self._last_unit()
        if last is None:
            branch = self.branch(membrane)
            return membrane + self.drop_path(self.gain(branch).to(branch.dtype))
        gain = self.gain.weight if isinstance(self.gain, LayerScale) else None
        residual = Residual(membrane, gain, self._draw_kept(membrane))
        if not isinstance(self.branch, nn.Sequential):
            return self.branch(membrane, residual)
        for unit in self.branch[:-1]:
            membrane = unit(membrane)
        return last(membrane, residual)

    def _last_unit(self) -> nn.Module | None:
        """Return the part of the branch that can add the residual; None where one is of another kind, or observed.

        In training alone: what looks at networks in evaluation finds each part as it is.
        """
        if (
            not self.training
            or type(self.gain) not in (nn.Identity, LayerScale)
            or type(self.drop_path) not in (nn.Identity, DropPath)
        ):
            return None
        chain = type(self.branch) is nn.Sequential and len(self.branch) > 0
        last = self.branch[-1] if chain else self.branch
        if type(last) not in (SpikeUnit, SpikeDrivenSelfAttention) or has_hooks(
            self.gain, self.drop_path, self.branch, last, getattr(last, 'projection', last)
        ):
            return None
        return last

    def _draw_kept(self, membrane: Tensor) -> Tensor | None:
        """Draw what stochastic depth keeps, ``(N, 1, 1, 1)``: 0, or one over the probability to be kept."""
        rate = getattr(self.drop_path, 'drop_prob', 0.0)
        if not rate or not self.drop_path.training:
            return None
        kept = 1 - rate + torch.rand(len(membrane), 1, 1, 1, dtype=membrane.dtype, device=membrane.device)
        return kept.floor_().div_(1 - rate)


class Block(nn.Sequential):
    """A block of the pyramid: membrane shortcuts, one after the other.

    >>> factory = UnitFactory(None, max_spike_count=4, time_steps=1, weight_bits=4, preset=dict(type='IELIF'))
    >>> Block([mlp(factory, 8)], channels=8, drop_path=0.0)(torch.ones(2, 8, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(
        self, branches: Sequence[nn.Module], channels: int, drop_path: float, layer_scale: float | None = None
    ) -> None:
        super().__init__(*(MembraneShortcut(branch, channels, drop_path, layer_scale) for branch in branches))


def mlp(factory: UnitFactory, channels: int, ratio: int = 4) -> nn.Sequential:
    """Build two pointwise units with bias: C to ratio * C and back."""
    hidden = channels * ratio
    return nn.Sequential(factory.conv_unit(channels, hidden, bias=True), factory.conv_unit(hidden, channels, bias=True))


def channel_conv(factory: UnitFactory, channels: int, ratio: int = 4, bias: bool = False) -> nn.Sequential:
    """Build two 3x3 units: C to ratio * C and back."""
    hidden = channels * ratio
    return nn.Sequential(
        factory.conv_unit(channels, hidden, 3, bias=bias), factory.conv_unit(hidden, channels, 3, bias=bias)
    )


def sep_conv_chained(factory: UnitFactory, channels: int, kernel_size: int) -> nn.Sequential:
    """Build QSD's separable convolution: ``N pw C->2C BN, N dw pw 2C->C BN``."""
    hidden = 2 * channels
    return nn.Sequential(
        factory.conv_unit(channels, hidden),
        factory.unit(DepthwiseSeparableConv(factory, hidden, channels, kernel_size), channels),
    )


def sep_conv_spiking(factory: UnitFactory, channels: int, kernel_size: int) -> nn.Sequential:
    """Build E-SpikeFormer's separable convolution: ``N pw C->2C BN, N dw BN, N pw 2C->C BN``."""
    hidden = 2 * channels
    return nn.Sequential(
        factory.conv_unit(channels, hidden),
        factory.unit(factory.depthwise(hidden, kernel_size), hidden),
        factory.conv_unit(hidden, channels),
    )


def qsd_conv_block(
    factory: UnitFactory, channels: int, num_heads: int, drop_path: float, layer_scale: float | None
) -> Block:
    """Build QSD's convolution block: separable convolution, then channel convolution."""
    return Block([sep_conv_chained(factory, channels, 7), channel_conv(factory, channels)], channels, drop_path)


def qsd_attention_block(
    factory: UnitFactory, channels: int, num_heads: int, drop_path: float, layer_scale: float | None
) -> Block:
    """Build QSD's transformer block: attention, then MLP, each with layer scale."""
    branches = [rep_conv_attention(factory, channels, num_heads), mlp(factory, channels)]
    return Block(branches, channels, drop_path, layer_scale)


def espike_conv_block(
    factory: UnitFactory, channels: int, num_heads: int, drop_path: float, layer_scale: float | None
) -> Block:
    """Build E-SpikeFormer's convolution block: spiking separable convolution, then channel convolution."""
    return Block([sep_conv_spiking(factory, channels, 7), channel_conv(factory, channels)], channels, drop_path)


def espike_attention_block(
    factory: UnitFactory,
    channels: int,
    num_heads: int,
    drop_path: float,
    layer_scale: float | None,
    separable_conv: bool = True,
) -> Block:
    """Build E-SpikeFormer's transformer block: separable convolution (or none), attention, MLP."""
    branches = [sep_conv_spiking(factory, channels, 3)] if separable_conv else []
    branches += [pointwise_attention(factory, channels, num_heads), mlp(factory, channels)]
    return Block(branches, channels, drop_path, layer_scale)


def espike_large_conv_block(
    factory: UnitFactory, channels: int, num_heads: int, drop_path: float, layer_scale: float | None
) -> Block:
    """Build the convolution block of E-SpikeFormer's large sizes: channel convolution with bias, and nothing else."""
    return Block([channel_conv(factory, channels, bias=True)], channels, drop_path)


def espike_large_attention_block(
    factory: UnitFactory,
    channels: int,
    num_heads: int,
    drop_path: float,
    layer_scale: float | None,
    pointwise_branch: bool = False,
) -> Block:
    """Build the transformer block of E-SpikeFormer's large sizes: attention, then MLP, each with layer scale.

    ``pointwise_branch`` puts ``x + [pw C->C BN pw C->C BN](N(x))`` before them, always kept and without layer scale.
    """
    branches = [pointwise_chain_attention(factory, channels, num_heads), mlp(factory, channels)]
    block = Block(branches, channels, drop_path, layer_scale)
    if pointwise_branch:
        branch = SpikeUnit(factory.make_neuron(), PointwiseChain(factory, channels, channels))
        block.insert(0, MembraneShortcut(branch, channels))
    return block


def downsampling(
    factory: UnitFactory, in_channels: int, out_channels: int, kernel_size: int, stride: int, encoding: bool
) -> SpikeUnit:
    """Build a strided convolution with bias, and batch norm; the encoding one takes the image and has no neuron."""
    conv = factory.conv(in_channels, out_channels, kernel_size, stride=stride, bias=True)
    return SpikeUnit(None if encoding else factory.make_neuron(), conv, nn.BatchNorm2d(out_channels))
