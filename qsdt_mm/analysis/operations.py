"""Operations of a layer, counted exactly: dense multiply-accumulates, and accumulates that spikes cause."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qsdt_mm.inference.slots import number_of_spikes, worths
from qsdt_mm.models.layers.attention import keys_first


def dense_macs(layer: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Count a layer's multiply-accumulates without regard to zeros; what a padding adds is counted.

    Args:
        layer: a convolution, transposed convolution or linear layer.
        inputs, output: what went in and came out.
    """
    # Each output of a layer sums over its weights; each input of a transposed convolution spreads over its own.
    ends = inputs if isinstance(layer, nn.ConvTranspose2d) else output
    return ends.numel() * layer.weight[0].numel()


@functools.lru_cache(maxsize=256)
def _fan_out(height: int, width: int, kernel: tuple, transposed: bool, **geometry: Any) -> Tensor:
    """Count the outputs of one channel that each place of the input reaches, ``(H, W)``, float64."""
    image = torch.zeros(1, 1, height, width, dtype=torch.float64, requires_grad=True)
    ones = torch.ones(1, 1, *kernel, dtype=torch.float64)
    with torch.enable_grad():
        (F.conv_transpose2d if transposed else F.conv2d)(image, ones, **geometry).sum().backward()
    return image.grad[0, 0]


def synaptic_operations(layer: nn.Module, spikes: Tensor) -> int:
    """Count the accumulates of a layer driven by spikes: each spike times the outputs that it really reaches.

    Borders, stride, dilation and groups are taken into account.

    Args:
        layer: a convolution, transposed convolution or linear layer.
        spikes: counts, or the zeros and ones of one slot: the layer's input, ``(N, C_in, ...)``.
    """
    spikes = spikes.detach().double()
    if isinstance(layer, nn.Linear):
        return round(spikes.sum().item()) * layer.out_features
    transposed = isinstance(layer, nn.ConvTranspose2d)
    geometry = {name: getattr(layer, name) for name in ('stride', 'padding', 'dilation')}
    if transposed:
        geometry['output_padding'] = layer.output_padding
    fan_out = _fan_out(*spikes.shape[-2:], layer.kernel_size, transposed, **geometry).to(spikes.device)
    return round((spikes.sum((0, 1)) * fan_out).sum().item()) * (layer.out_channels // layer.groups)


def attention_macs(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Count multiply-accumulates of ``q k^T v`` in the cheaper order, zeros included; ``(B, heads, C, L)`` each."""
    (batch, heads, width, tokens), value_width = key.shape, value.shape[-2]
    inner = 2 * width * value_width * tokens
    outer = tokens * tokens * (width + value_width)
    return batch * heads * (inner if keys_first(key, value) else outer)


def attention_products(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    coding: str = 'unary',
    max_spike_count: int | None = None,
    per_slot: bool = False,
) -> tuple[int, int]:
    """Count accumulates of both products of ``q k^T v`` over binary slots, counts ``(B, heads, C, L)``.

    Of the two streams of the first product, each spike of the left one adds a row of the right one's running sum, and
    each spike of the right one after the first slot adds a row of the left one's. In the second product each spike adds
    a row of the result. Rows are counted whole.

    Args:
        query, key, value: counts.
        coding: of the slots, 'unary' or 'bitwise'.
        max_spike_count: D, the largest of the two streams of the first product; needed for bits.
        per_slot: slots are unary and do not meet, so that the left one's spikes add rows of their own slot alone.
    """
    (left, right, last), (left_row, right_row, last_row) = attention_streams(query, key, value)
    most = max_spike_count or int(max(left.max(), right.max(), 1))
    left, right, last = (x.detach().double() for x in (left, right, last))
    coding = 'unary' if per_slot else coding
    first_slot = right >= worths(most, coding)[0]
    later = number_of_spikes(right, most, coding) - first_slot.double()
    most_of_last = max(most, int(last.max()))
    return (
        round(number_of_spikes(left, most, coding).sum().item()) * left_row
        + (0 if per_slot else round(later.sum().item()) * right_row),
        round(number_of_spikes(last, most_of_last, coding).sum().item()) * last_row,
    )


def attention_streams(query: Tensor, key: Tensor, value: Tensor) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Return left and right of the first product and what its result is multiplied by, and how many sums each reaches.

    ``(v k^T) q`` or ``v (k^T q)``, whichever is cheaper: an element of each stream is added to a row of so many.
    """
    if keys_first(key, value):  # sums over tokens, rows as wide as the other stream's channels
        return (value, key, query), (key.shape[-2], value.shape[-2], value.shape[-2])
    return (key, query, value), (key.shape[-1],) * 3  # sums over channels, rows as long as the tokens


def attention_operations(
    query: Tensor, key: Tensor, value: Tensor, coding: str = 'unary', max_spike_count: int | None = None
) -> int:
    """Count accumulates of ``q k^T v`` over binary slots; see :func:`attention_products`."""
    return sum(attention_products(query, key, value, coding, max_spike_count))


def effective_operations(layer: nn.Module, values: Tensor, present: Tensor) -> float:
    """Sum values over the outputs that each really reaches by a weight that is not zero.

    Args:
        layer: a convolution, transposed convolution or linear layer.
        values: numbers of spikes, or ones where an input is not zero: the layer's input, ``(N, C_in, ...)``.
        present: ones where a weight is not zero, in the weight's shape.
    """
    values, present = values.detach().double(), present.double()
    if isinstance(layer, nn.Linear):
        return (values.flatten(0, -2).sum(0) * present.sum(0)).sum().item()
    geometry = {name: getattr(layer, name) for name in ('stride', 'padding', 'dilation')}
    groups, summed = layer.groups, values.sum(0, keepdim=True)
    if isinstance(layer, nn.ConvTranspose2d):
        fan_out = present.sum(1, keepdim=True)  # over the outputs of a group
        return (
            F.conv_transpose2d(summed, fan_out, groups=groups, output_padding=layer.output_padding, **geometry)
            .sum()
            .item()
        )
    fan_out = present.unflatten(0, (groups, -1)).sum(1)
    return F.conv2d(summed, fan_out, groups=groups, **geometry).sum().item()
