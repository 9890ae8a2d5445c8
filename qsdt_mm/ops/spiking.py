"""The neuron, forward and backward, in plain operations of torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor

from qsdt_mm.compat.compiling import is_compiling

from .compact_saving import pack_nibbles, unpack_into
from .layout import PLAIN, dense, laid_out

INSIDE = 0x80
"""Bit of a saved byte that says that a membrane lies where the gradient passes; the others are the count."""
INSIDE_HALF = 0x8
"""The same where counts fit three bits, so that two neurons share a byte."""
ROUNDINGS = ('half_up', 'half_even')
"""Rules for a membrane exactly on a half: ``floor(u / threshold + 0.5)``, or ``torch.round``."""
_HALF = torch.tensor(0.5, device='cpu')
PIECE = 2**18
"""Values that a CPU works on at a time: few enough that the next operation finds them in the cache."""


def fire(
    membrane: Tensor, threshold: float, max_spike_count: int, scale: float, bit: int, rounding: str = 'half_up'
) -> tuple[Tensor, Tensor | None]:
    """Compute scaled counts, and a byte for each: ``bit`` where the gradient passes and, if above 1, the count."""
    count = torch.empty_like(membrane)
    kept = torch.empty_like(membrane, dtype=torch.uint8) if bit else None
    whole = membrane.numel() <= PIECE or is_compiling()  # a graph of pieces is worth nothing to a compiler
    whole |= type(membrane) not in PLAIN
    if whole or membrane.device.type != 'cpu' or membrane.stride() != count.stride():
        fire_into(count, kept, membrane, threshold, max_spike_count, scale, bit, rounding)
        # Compiled by torch 2.11, a result that an operation in place has written has a gradient of zero.
        return count.clone() if is_compiling() else count, kept
    flat = [None if x is None else x.as_strided((x.numel(),), (1,)).split(PIECE) for x in (count, kept, membrane)]
    for pieces in zip(flat[0], flat[1] or repeat(None), flat[2]):
        fire_into(*pieces, threshold, max_spike_count, scale, bit, rounding)
    return count, kept


def fire_into(
    count: Tensor,
    kept: Tensor | None,
    membrane: Tensor,
    threshold: float,
    max_spike_count: int,
    scale: float,
    bit: int,
    rounding: str,
) -> None:
    """Compute :func:`fire`, its results written to ``count`` and ``kept``."""
    given, inside = membrane, membrane.clamp(0, max_spike_count * threshold) if bit else None
    few = bit and max_spike_count < INSIDE_HALF
    if few:  # a count of what is clipped is in range: rounding carries no further
        membrane = inside
    if rounding == 'half_even':
        if threshold == 1.0:
            torch.round(membrane, out=count)
        else:
            torch.div(membrane, threshold, out=count).round_()
    # By a power of two, whose inverse is exact, division and sum are one operation.
    elif membrane.device.type == 'cpu' and type(membrane) in PLAIN and math.frexp(threshold)[0] == 0.5:
        torch.add(_HALF, membrane, alpha=1 / threshold, out=count).floor_()
    else:
        torch.div(membrane, threshold, out=count).add_(0.5).floor_()
    if not few:
        count.clamp_(0, max_spike_count)
    if bit:
        # Ones and zeros of the membrane's type: a comparison that makes booleans is several times as slow on CPUs.
        torch.eq(inside, given, out=inside)
        if bit > 1:  # one byte serves this gradient and those of all that read the spikes
            # Within int8: -0x80 and 0x80 are the same byte.
            torch.add(count, inside, alpha=bit if bit < INSIDE else -INSIDE, out=inside)
        kept.view(torch.int8).copy_(inside)  # to int8 is several times as fast
    if scale != 1.0:
        count.mul_(scale)


def fire_packed(
    membrane: Tensor, threshold: float, max_spike_count: int, scale: float, rounding: str = 'half_up'
) -> tuple[Tensor, Tensor]:
    """Compute scaled counts up to 7, and half a byte for each: count and, where the gradient passes, a bit.

    Returns:
        The scaled counts; the halves as :func:`~qsdt_mm.ops.compact_saving.pack_nibbles` lays them, in the order of the
        counts in memory.
    """
    membrane = dense(membrane)
    constants = threshold, max_spike_count, scale, INSIDE_HALF, rounding
    count = torch.empty_like(membrane)
    if not in_pieces(membrane):
        code = torch.empty_like(membrane, dtype=torch.uint8)
        fire_into(count, code, membrane, *constants)
        return count, pack_nibbles(code)
    packed = membrane.new_empty((membrane.numel() + 1) // 2, dtype=torch.uint8)
    for code, (lower, lower_count), (upper, upper_count) in pieces_of(packed, membrane, count):
        fire_into(lower_count, code, lower, *constants)
        upper_code = torch.empty_like(upper, dtype=torch.uint8)
        fire_into(upper_count, upper_code, upper, *constants)
        code[: len(upper)] |= upper_code << 4
    return count, packed


def restore_spikes(spikes: Tensor, packed: Tensor, scale: float) -> Tensor:
    """Write scaled counts into ``spikes``, of the strides that they had, from what :func:`fire_packed` gave."""
    if not in_pieces(spikes):
        return unpack_into(spikes, packed, mask=7).mul_(scale)
    for code, (lower,), (upper,) in pieces_of(packed, spikes):
        lower.copy_(code & 7).mul_(scale)
        upper.copy_(code[: len(upper)] >> 4 & 7).mul_(scale)
    return spikes


def fire_packed_backward(grad: Tensor, packed: Tensor, result: Tensor, threshold: float, scale: float) -> Tensor:
    """Write the gradient of the membrane into ``result``, of its strides, from that of the scaled counts."""
    if not in_pieces(result):
        return pass_on(grad, unpack_into(result, packed, mask=1, shift=3), threshold, scale)
    for code, (lower_grad, lower), (upper_grad, upper) in pieces_of(packed, laid_out(grad, result), result):
        pass_on(lower_grad, lower.copy_(code >> 3 & 1), threshold, scale)
        pass_on(upper_grad, upper.copy_(code[: len(upper)] >> 7), threshold, scale)
    return result


def in_pieces(tensor: Tensor) -> bool:
    """Return whether the values are worked on in pieces: on a CPU, if there are more than fit its cache."""
    return tensor.device.type == 'cpu' and tensor.numel() > PIECE


def pieces_of(packed: Tensor, *tensors: Tensor) -> Iterator[tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """Yield pieces of bytes, of what their lower halves hold, and of what their upper halves do, which may be less."""
    half = len(packed)
    flat = [tensor.as_strided((tensor.numel(),), (1,)) for tensor in tensors]
    for start in range(0, half, PIECE // 2):
        stop = min(start + PIECE // 2, half)
        lower, upper = (tuple(values[start + at : stop + at] for values in flat) for at in (0, half))
        yield packed[start:stop], lower, upper


def fire_backward(grad: Tensor, kept: Tensor, threshold: float, scale: float, bit: int) -> Tensor:
    """Compute the gradient of the membrane from that of the scaled counts."""
    return pass_on(grad, (kept >> (bit.bit_length() - 1)).to(grad.dtype), threshold, scale)


def pass_on(grad: Tensor, passes: Tensor, threshold: float, scale: float) -> Tensor:
    """Compute ``grad * passes * scale / threshold``, in the place of ``passes``: ones and zeros.

    Of the type of ``grad``, for a product of two types is slow on CPUs.
    """
    passes = passes.mul_(grad)
    if scale == threshold and math.frexp(scale)[0] == 0.5:  # a power of two: nothing is rounded
        return passes
    passes = passes if scale == 1.0 else passes.mul_(scale)
    return passes if threshold == 1.0 else passes.div_(threshold)
