"""Spike-driven self-attention."""

from __future__ import annotations

from torch import Tensor, nn

from qsdt_mm.validation import require

from .synapses import RepConvBN
from .unit import SpikeUnit, UnitFactory


def linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``q k^T v`` without softmax, in the order that costs fewer multiplications.

    Args:
        query, key: ``(B, heads, C_k, L)``, channels before tokens.
        value: ``(B, heads, C_v, L)``.

    Returns:
        ``(B, heads, C_v, L)``. Both orders are the same function; with spike counts also bit for bit, as long as the
        sums fit the carrier.
    """
    (key_width, tokens), value_width = key.shape[-2:], value.shape[-2]
    if 2 * key_width * value_width <= tokens * (key_width + value_width):
        return (value @ key.mT) @ query
    return value @ (key.mT @ query)


class SpikeDrivenSelfAttention(nn.Module):
    """Self-attention of spikes: products of spike counts are sums, and no softmax is needed.

    ``s = N(x); q, k, v = N(unit(s)); a = scale * q k^T v; y = projection(a)``

    Args:
        query, key, value: units that share one neuron.
        projection: unit whose neuron fires on the attention map.
        neurons: three neurons, for the outputs of query, key and value.
        num_heads: must divide the channels.
        scale: factor on the product.

    Source: Spike-driven Transformer V2 (arXiv 2404.03663); QSD (arXiv 2501.13492); SFA (arXiv 2411.16061).
    """

    def __init__(
        self,
        query: SpikeUnit,
        key: SpikeUnit,
        value: SpikeUnit,
        projection: SpikeUnit,
        neurons: tuple[nn.Module, nn.Module, nn.Module],
        num_heads: int,
        scale: float,
    ) -> None:
        super().__init__()
        self.query, self.key, self.value, self.projection = query, key, value, projection
        self.query_neuron, self.key_neuron, self.value_neuron = neurons
        self.num_heads = num_heads
        self.scale = scale

    def forward(self, membrane: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``; time steps are folded into N and do not mix here."""
        spikes = self.query.fire(membrane)
        query, key, value = (
            neuron(unit.drive(spikes)).flatten(2).unflatten(1, (self.num_heads, -1))
            for unit, neuron in (
                (self.query, self.query_neuron),
                (self.key, self.key_neuron),
                (self.value, self.value_neuron),
            )
        )
        attended = linear_attention(query, key, value) * self.scale
        return self.projection(attended.flatten(1, 2).unflatten(2, membrane.shape[2:]))


def require_heads(channels: int, num_heads: int) -> None:
    """Raise ``ValueError`` unless the heads divide the channels."""
    require(
        isinstance(num_heads, int) and num_heads >= 1 and channels % num_heads == 0,
        'num_heads',
        num_heads,
        f'a divisor of the {channels} channels of the stage',
    )


def rep_conv_attention(factory: UnitFactory, channels: int, num_heads: int) -> SpikeDrivenSelfAttention:
    """QSD's attention: RepConv synapses, ``a = 0.25 q k^T v``, spikes after it worth twice the usual."""
    require_heads(channels, num_heads)
    spikes = factory.make_neuron()
    query, key, value = (SpikeUnit(spikes, RepConvBN(factory, channels), nn.BatchNorm2d(channels)) for _ in range(3))
    projection = SpikeUnit(
        factory.make_neuron(scale_factor=2.0), RepConvBN(factory, channels), nn.BatchNorm2d(channels)
    )
    neurons = tuple(factory.make_neuron() for _ in range(3))
    return SpikeDrivenSelfAttention(query, key, value, projection, neurons, num_heads, scale=0.25)


def pointwise_attention(
    factory: UnitFactory, channels: int, num_heads: int, value_ratio: int = 4
) -> SpikeDrivenSelfAttention:
    """E-SpikeFormer's attention: pointwise synapses, values ``value_ratio`` times as wide, ``a = 2 d^-0.5 q k^T v``."""
    require_heads(channels, num_heads)
    wide = channels * value_ratio
    spikes = factory.make_neuron()
    query, key, value = (
        SpikeUnit(spikes, factory.conv(channels, width), nn.BatchNorm2d(width)) for width in (channels, channels, wide)
    )
    projection = factory.conv_unit(wide, channels)
    neurons = tuple(factory.make_neuron() for _ in range(3))
    return SpikeDrivenSelfAttention(
        query, key, value, projection, neurons, num_heads, scale=2 * (channels // num_heads) ** -0.5
    )
