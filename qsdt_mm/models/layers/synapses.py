"""Synapses made of more than one convolution. All are linear maps, apart from batch statistics in training."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from qsdt_mm.ops import compact_saving

from .norm_counters import batch_norm
from .norms import can_repeat, normalise, repeat
from .unit import UnitFactory


class BNAndPad(nn.Module):
    """Batch norm, then a border of one pixel that holds the norm's output for a zero input.

    So a zero-padded convolution *before* the norm and an unpadded one after it are the same map, and the whole chain
    merges into one convolution. In training the border uses the running statistics, as the published networks do.

    ``(N, C, H, W) -> (N, C, H + 2, W + 2)``

    Source: RepVGG-style re-parameterisation (arXiv 2101.03697) as used by QSD (arXiv 2501.13492).

    >>> BNAndPad(8)(torch.ones(2, 8, 4, 4)).shape
    torch.Size([2, 8, 6, 6])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)  # a child, so that tools which swap norms (SyncBN) find it

    def border(self) -> Tensor:
        """Return the norm's output for zero, ``(1, C, 1, 1)``."""
        norm = self.norm
        # Cloned: the next forward updates the statistics in place, maybe before this graph is used.
        mean, inv_std = norm.running_mean.clone(), (norm.running_var + norm.eps).rsqrt()
        return (norm.bias - mean * inv_std * norm.weight).view(1, -1, 1, 1)

    def forward(self, membrane: Tensor) -> Tensor:
        def pad(normalised: Tensor, border: Tensor) -> Tensor:
            return F.pad(normalised - border, (1, 1, 1, 1)) + border

        normalised = batch_norm(self.norm, membrane)
        border = self.border().to(normalised.dtype)  # after the norm has updated its statistics
        padded = pad(normalised, border)
        if can_repeat(self.norm):
            edge = border.detach()
            compact_saving.register_recompute(padded, lambda source: pad(repeat(self.norm, source), edge), membrane)
        return padded


class NormedChain(nn.Sequential):
    """Layers, the last a batch norm. Another norm follows in the unit, so that its input is derived, not kept.

    >>> NormedChain(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def forward(self, spikes: Tensor) -> Tensor:
        *layers, norm = self
        for layer in layers:
            spikes = batch_norm(layer, spikes) if isinstance(layer, nn.BatchNorm2d) else layer(spikes)
        return normalise(norm, spikes)


class RepConvBN(NormedChain):
    """``pw C->C, BN and pad, dw3, pw C->C, BN``: a re-parameterisable 3x3 convolution, without bias.

    Only its first convolution is driven by spikes; merged, the whole chain is one 3x3 convolution.

    Args:
        factory: makes the convolutions.
        channels: C.

    Source: QSD (arXiv 2501.13492), attention.

    >>> factory = UnitFactory(None, max_spike_count=4, time_steps=1, weight_bits=4, preset=dict(type='IELIF'))
    >>> RepConvBN(factory, 8)(torch.ones(2, 8, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(self, factory: UnitFactory, channels: int) -> None:
        super().__init__(
            factory.conv(channels, channels),
            BNAndPad(channels),
            factory.depthwise(channels, 3, padding=0),
            factory.conv(channels, channels),
            nn.BatchNorm2d(channels),
        )


class DepthwiseSeparableConv(nn.Sequential):
    """``dw k, pw C_in->C_out``, without bias; only the depthwise part is driven by spikes.

    Source: QSD (arXiv 2501.13492), convolution blocks.

    >>> factory = UnitFactory(None, max_spike_count=4, time_steps=1, weight_bits=4, preset=dict(type='IELIF'))
    >>> DepthwiseSeparableConv(factory, 8, 4, kernel_size=7)(torch.ones(2, 8, 4, 4)).shape
    torch.Size([2, 4, 4, 4])
    """

    def __init__(self, factory: UnitFactory, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(factory.depthwise(in_channels, kernel_size), factory.conv(in_channels, out_channels))


class PointwiseChain(NormedChain):
    """``pw C->hidden, BN, pw hidden->C, BN``, without bias: merged, one pointwise convolution.

    Only its first convolution is driven by spikes.

    Args:
        factory: makes the convolutions.
        channels: C.
        hidden: channels between the two.

    Source: SFA (arXiv 2411.16061), large sizes.

    >>> factory = UnitFactory(None, max_spike_count=4, time_steps=1, weight_bits=4, preset=dict(type='IELIF'))
    >>> PointwiseChain(factory, 8, hidden=16)(torch.ones(2, 8, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(self, factory: UnitFactory, channels: int, hidden: int) -> None:
        super().__init__(
            factory.conv(channels, hidden),
            nn.BatchNorm2d(hidden),
            factory.conv(hidden, channels),
            nn.BatchNorm2d(channels),
        )
