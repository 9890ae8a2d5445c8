"""Spike-driven self-attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from qsdt_mm.compat.tracing import has_values
from qsdt_mm.errors import require, require_positive_int
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.ops import compact_saving, layout

from .norms import Residual
from .synapses import PointwiseChain, RepConvBN
from .unit import SpikeUnit, UnitFactory, register_parameters_once, response

ATTENTIONS = ('summed', 'per_slot')
"""Products of slots, by name: of all with all, as counts multiply, or of each with its own."""
USUAL_TOKENS = 80
"""Tokens that a new attention is set for: the geometric mean of 16 (images of 64 px) and 400 (320 px)."""


def linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Multiply ``q k^T v`` without softmax, in the order that costs fewer multiplications.

    Args:
        query, key: ``(B, heads, C_k, L)``, channels before tokens.
        value: ``(B, heads, C_v, L)``.

    Returns:
        ``(B, heads, C_v, L)``. Both orders are the same function; with spike counts also bit for bit, as long as the
        sums fit the dtype that they are added up in.
    """
    return (value @ key.mT) @ query if keys_first(key, value) else value @ (key.mT @ query)


def keys_first(key: Tensor, value: Tensor) -> bool:
    """Return whether ``q (k^T v)`` costs no more multiplications than ``(q k^T) v``."""
    (key_width, tokens), value_width = key.shape[-2:], value.shape[-2]
    return 2 * key_width * value_width <= tokens * (key_width + value_width)


def tokens(spikes: Tensor) -> Tensor:
    """Flatten ``(N, C, H, W) -> (N, C, H * W)``, one token after the other; of a copy, its source is kept."""
    ordered = spikes.contiguous()
    if ordered is not spikes:
        compact_saving.register_recompute(ordered, Tensor.contiguous, spikes)
    return ordered.flatten(2)


def factor_for(scale: float, usual_tokens: int | None, length: int) -> float:
    """Return the factor on a product of so many tokens, see :class:`LinearAttention`."""
    return scale if usual_tokens is None else scale * usual_tokens / length


class LinearAttention(nn.Module):
    """Product ``scale * q k^T v``, see :func:`linear_attention`; a module, so that views of a network can replace it.

    Args:
        scale: factor on the product.
        usual_tokens: with L tokens the factor is ``scale * usual_tokens / L``, so that images of any size drive the
            neuron after it alike; None: scale, whatever L is, as published.

    >>> query = key = value = torch.ones(1, 2, 8, 16)  # 16 tokens, 2 heads of 8 channels
    >>> LinearAttention(scale=0.25)(query, key, value)[0, 0, 0, 0].item()  # 0.25 * 16 tokens * 8 channels
    32.0
    >>> LinearAttention(scale=0.25, usual_tokens=4)(query, key, value)[0, 0, 0, 0].item()
    8.0
    """

    def __init__(self, scale: float, usual_tokens: int | None = None) -> None:
        super().__init__()
        if usual_tokens is not None:
            require_positive_int('attention_tokens', usual_tokens)
        self.scale = scale
        self.usual_tokens = usual_tokens

    def factor(self, length: int) -> float:
        """Return the factor on the product of so many tokens."""
        return factor_for(self.scale, self.usual_tokens, length)

    def expected(self, outputs: Tensor) -> float:
        """Return the expectation of the product for one token and channel, of the outputs of a neuron before it."""
        return self.scale * outputs.mean().item() ** 3

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Multiply q, k, v, ``(B, heads, C, L)`` each, to the membrane potential ``(B, heads, C_v, L)``."""
        return linear_attention(query, key, value) * self.factor(key.shape[-1])

    def extra_repr(self) -> str:
        tokens = '' if self.usual_tokens is None else f', usual_tokens={self.usual_tokens}'
        return f'scale={self.scale:g}{tokens}'


def slots_with_gradient(count: Tensor, max_spike_count: int) -> Tensor:
    """Return the unary slots of counts, ``(D, ...)``: ones where ``n >= d``, with a straight-through gradient.

    A count next to a slot's threshold on either side, d - 1 or d, passes half of the slot's gradient; so the gradients
    of equal slots add up to that of the count, within its range.
    """
    whole = torch.round(count.detach())
    through = count - count.detach()  # zero, with the gradient of the count
    fired = [
        (whole >= d).to(count.dtype) + through * (0.5 * ((whole == d) | (whole == d - 1)).to(count.dtype))
        for d in range(1, max_spike_count + 1)
    ]
    return torch.stack(fired)


class PerSlotAttention(LinearAttention):
    """Product ``scale * w_q w_k w_v * sum_d q_d k_d^T v_d`` of unary slots, w the worth of each neuron's spike.

    Where no count is above 1, and so with D = 1, it is :class:`LinearAttention`; elsewhere the products of different
    slots are left out, to which a network has to be trained.

    Args:
        scale, usual_tokens: as for :class:`LinearAttention`.
        neurons: of query, key and value; all with the same D.

    Raises:
        ValueError: a neuron does not spike, or D differs.

    >>> from qsdt_mm.models import IELIF
    >>> spikes = torch.full((1, 1, 1, 1), 0.5)  # 2 of 4 slots: 2 products, worth 1 / 64 each; 8 if all met all
    >>> PerSlotAttention(1.0, (IELIF(max_spike_count=4),) * 3)(spikes, spikes, spikes).item()
    0.03125
    """

    def __init__(
        self, scale: float, neurons: tuple[nn.Module, nn.Module, nn.Module], usual_tokens: int | None = None
    ) -> None:
        super().__init__(scale, usual_tokens)
        most = [getattr(neuron, 'max_spike_count', None) for neuron in neurons]
        require(
            None not in most and len(set(most)) == 1,
            'attention',
            'per_slot',
            f'spiking neurons with the same D on query, key and value, not D = {most}',
        )
        self.max_spike_count = most[0]
        self.neurons = neurons  # in a tuple: registered where the attention holds them

    def expected(self, outputs: Tensor) -> float:
        worth, slots = self.neurons[0].scale, range(1, self.max_spike_count + 1)
        count = torch.round(outputs / worth)
        return sum((count >= d).double().mean().item() ** 3 for d in slots) * self.scale * worth**3

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Multiply q, k, v, ``(B, heads, C, L)`` each, slot by slot, to the membrane ``(B, heads, C_v, L)``."""
        factor, streams = self.factor(key.shape[-1]), []
        for spikes, neuron in zip((query, key, value), self.neurons):
            streams.append(slots_with_gradient(spikes / neuron.scale, self.max_spike_count).flatten(0, 1))
            factor *= neuron.scale
        products = linear_attention(*streams).unflatten(0, (self.max_spike_count, -1))
        return products.sum(0) * factor

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, D={self.max_spike_count}'


class SpikeDrivenSelfAttention(nn.Module):
    """Self-attention of spikes: products of spike counts are sums, and no softmax is needed.

    ``s = N(x); q, k, v = N(unit(s)); a = scale * q k^T v; y = projection(a)``

    Args:
        query, key, value: units that share one neuron.
        projection: unit whose neuron fires on the attention map.
        neurons: three neurons, for the outputs of query, key and value.
        num_heads: must divide the channels.
        scale: factor on the product.
        attention: 'summed': products of all slots with all; 'per_slot': of each with its own.
        usual_tokens: as for :class:`LinearAttention`.

    Source: Spike-driven Transformer V2 (arXiv 2404.03663); QSD (arXiv 2501.13492); SFA (arXiv 2411.16061).

    >>> from qsdt_mm.models.layers.unit import UnitFactory
    >>> factory = UnitFactory(None, max_spike_count=4, time_steps=1, weight_bits=4, preset=dict(type='IELIF'))
    >>> rep_conv_attention(factory, channels=16, num_heads=4)(torch.ones(1, 16, 4, 4)).shape
    torch.Size([1, 16, 4, 4])
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
        attention: str = 'summed',
        usual_tokens: int | None = None,
    ) -> None:
        super().__init__()
        require(attention in ATTENTIONS, 'attention', attention, ' or '.join(ATTENTIONS))
        self.query, self.key, self.value, self.projection = query, key, value, projection
        self.query_neuron, self.key_neuron, self.value_neuron = neurons
        self.num_heads = num_heads
        per_slot = attention == 'per_slot'
        self.product = (
            PerSlotAttention(scale, neurons, usual_tokens) if per_slot else LinearAttention(scale, usual_tokens)
        )
        register_parameters_once(self)
        self.reset_parameters()

    @property
    def neurons(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Return the neurons on the outputs of query, key and value."""
        return self.query_neuron, self.key_neuron, self.value_neuron

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the norms of query, key and value so that a new attention drives its neuron, but not all the way.

        ``E[a] = scale * L * d * m^3``, with L tokens, d channels a head, m the mean output of a neuron for a membrane
        of deviation g, the norms' weight (per slot: with a mean of the slots' cubes). With g = 1, QSD's neurons on many
        tokens all fire D spikes, and no gradient reaches query, key and value. So g is the largest up to 1 at which
        E[a] is at most half of what the neuron after it can count, for ``usual_tokens`` or :data:`USUAL_TOKENS` tokens.
        """
        if not all(has_values(parameter) for parameter in self.parameters()):  # nothing to set, or to set it by
            return
        neuron = self.projection.neuron
        half = neuron.max_spike_count * neuron.threshold / 2 if isinstance(neuron, SpikingNeuron) else 1.0
        width = self.query.norm.num_features // self.num_heads
        length = self.product.usual_tokens or USUAL_TOKENS
        low, high = 0.0, 2.0
        for _ in range(20):
            weight = (low + high) / 2
            expected = length * width * self.product.expected(response(self.query_neuron, weight))
            low, high = (low, weight) if expected > half else (weight, high)
        for unit in (self.query, self.key, self.value):
            unit.norm.weight.fill_(min(low, 1.0))

    def forward(self, membrane: Tensor, residual: Residual | None = None) -> Tensor:
        """Map ``(N, C, H, W) -> (N, C, H, W)``, and add a residual if there is one.

        Time steps are folded into N and do not mix here.
        """
        spikes = self.query.fire(membrane)
        units = self.query, self.key, self.value
        attended = self.attend(*(neuron(unit.drive(spikes)) for unit, neuron in zip(units, self.neurons)))
        attended = layout.to_memory_format_of(attended, membrane)
        return self.projection(attended) if residual is None else self.projection(attended, residual)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Multiply the spikes of query, key and value, ``(N, C, H, W)`` each, to the projection's membrane."""
        heads = (tokens(spikes).unflatten(1, (self.num_heads, -1)) for spikes in (query, key, value))
        return self.product(*heads).flatten(1, 2).unflatten(2, value.shape[2:])


def require_heads(channels: int, num_heads: int) -> None:
    """Raise ``ValueError`` unless the heads divide the channels."""
    require(
        isinstance(num_heads, int) and num_heads >= 1 and channels % num_heads == 0,
        'num_heads',
        num_heads,
        f'a divisor of the {channels} channels of the stage',
    )


def chain_attention(
    factory: UnitFactory,
    channels: int,
    num_heads: int,
    make_synapse: Callable[[], nn.Module],
    scale: float,
    scale_after: float = 1.0,
) -> SpikeDrivenSelfAttention:
    """Build attention whose four synapses are chains from C to C, each in a unit with a norm of its own.

    Args:
        factory, channels, num_heads, scale: as for the attention.
        make_synapse: makes a chain.
        scale_after: the neuron on the product fires spikes worth so many times the usual.
    """
    require_heads(channels, num_heads)
    spikes = factory.make_neuron()
    query, key, value = (SpikeUnit(spikes, make_synapse(), nn.BatchNorm2d(channels)) for _ in range(3))
    projection = SpikeUnit(factory.make_neuron(scale_after), make_synapse(), nn.BatchNorm2d(channels))
    neurons = tuple(factory.make_neuron() for _ in range(3))
    return SpikeDrivenSelfAttention(
        query, key, value, projection, neurons, num_heads, scale, factory.attention, factory.attention_tokens
    )


def rep_conv_attention(factory: UnitFactory, channels: int, num_heads: int) -> SpikeDrivenSelfAttention:
    """Build QSD's attention: RepConv synapses, ``a = 0.25 q k^T v``, spikes after it worth twice the usual."""
    return chain_attention(
        factory, channels, num_heads, lambda: RepConvBN(factory, channels), scale=0.25, scale_after=2.0
    )


def pointwise_chain_attention(factory: UnitFactory, channels: int, num_heads: int) -> SpikeDrivenSelfAttention:
    """Build attention of E-SpikeFormer's large sizes: two pointwise convolutions a synapse, ``a = 0.125 q k^T v``."""
    hidden = channels * 3 // 2
    return chain_attention(factory, channels, num_heads, lambda: PointwiseChain(factory, channels, hidden), scale=0.125)


def pointwise_attention(
    factory: UnitFactory, channels: int, num_heads: int, value_ratio: int = 4
) -> SpikeDrivenSelfAttention:
    """Build E-SpikeFormer's attention: pointwise synapses, values ``value_ratio`` as wide, ``a = 2 d^-0.5 q k^T v``."""
    require_heads(channels, num_heads)
    wide = channels * value_ratio
    spikes = factory.make_neuron()
    query, key, value = (
        SpikeUnit(spikes, factory.conv(channels, width), nn.BatchNorm2d(width)) for width in (channels, channels, wide)
    )
    projection = factory.conv_unit(wide, channels)
    neurons = tuple(factory.make_neuron() for _ in range(3))
    return SpikeDrivenSelfAttention(
        query,
        key,
        value,
        projection,
        neurons,
        num_heads,
        2 * (channels // num_heads) ** -0.5,
        factory.attention,
        factory.attention_tokens,
    )
