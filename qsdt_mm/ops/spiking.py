"""The neuron, forward and backward, in plain operations of torch."""

from __future__ import annotations

import math
from itertools import repeat

import torch
from torch import Tensor

from qsdt_mm.compat.compiling import is_compiling

from .layout import PLAIN

INSIDE = 0x80
"""Bit of a saved byte that says that a membrane lies where the gradient passes; the others are the count."""
INSIDE_HALF = 0x8
"""The same where counts fit three bits, so that two neurons share a byte."""
ROUNDINGS = ('half_up', 'half_even')
"""Rules for a membrane exactly on a half: ``floor(u / threshold + 0.5)``, or ``torch.round``."""
_HALF = torch.tensor(0.5, device='cpu')
PIECE = 2**19
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
    count.clamp_(0, max_spike_count)
    if bit:
        inside = membrane.clamp(0, max_spike_count * threshold)
        # Ones and zeros of the membrane's type: a comparison that makes booleans is several times as slow on CPUs.
        torch.eq(inside, membrane, out=inside)
        if bit > 1:  # one byte serves this gradient and those of all that read the spikes
            # Within int8: -0x80 and 0x80 are the same byte.
            torch.add(count, inside, alpha=bit if bit < INSIDE else -INSIDE, out=inside)
        kept.view(torch.int8).copy_(inside)  # to int8 is several times as fast
    if scale != 1.0:
        count.mul_(scale)


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
