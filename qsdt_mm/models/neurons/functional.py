"""Spiking neurons as pure functions of the membrane potential.

Counts are integers in ``{0..D}`` carried in the dtype of the membrane, so that convolutions take them directly.
Sources: QSD ("Quantized Spike-driven Transformer", arXiv 2501.13492) and SFA ("Scaling Spike-driven Transformer with
Efficient Spike Firing Approximation Training", arXiv 2411.16061).
"""

from __future__ import annotations

import math
from functools import partial
from itertools import repeat

import torch
from torch import Tensor

from qsdt_mm.models import kernels
from qsdt_mm.validation import require

from . import saving

INSIDE = 0x80
"""Bit of a saved byte that says that a membrane lies where the gradient passes; the others are the count."""
INSIDE_HALF = 0x8
"""The same where counts fit three bits, so that two neurons share a byte."""
ROUNDINGS = ('half_up', 'half_even')
"""What a neuron may do with a membrane exactly on a half: ``floor(u / threshold + 0.5)``, or ``torch.round``."""


def check_rounding(rounding: str) -> None:
    """Raise ``ValueError`` unless it is one of :data:`ROUNDINGS`."""
    require(rounding in ROUNDINGS, 'rounding', rounding, ' or '.join(ROUNDINGS))


class _SpikeCount(torch.autograd.Function):
    """``scale * clip(round(u / threshold), 0, D)`` with a straight-through gradient, whatever happens on a half."""

    @staticmethod
    def forward(ctx, membrane: Tensor, threshold: float, levels: int, scale: float, rounding: str) -> Tensor:
        compact = saving.is_compact() and levels < INSIDE
        ctx.threshold, ctx.scale = threshold, scale
        ctx.bit, ctx.unpack = int(ctx.needs_input_grad[0]), None
        if compact:
            ctx.bit = INSIDE_HALF if levels < INSIDE_HALF else INSIDE
        count, kept = (kernels.find('fire', membrane) or _fire)(membrane, threshold, levels, scale, ctx.bit, rounding)
        if ctx.bit == INSIDE_HALF:
            ctx.unpack = partial(saving.unhalve, shape=kept.shape, stride=kept.stride())
            kept = saving.halve(kept)
            saving.note_product(
                count, scale, kept, unpack=lambda code, dtype, unpack=ctx.unpack: unpack(code, dtype=dtype, mask=7)
            )
        elif compact:
            saving.note_product(count, scale, kept, ctx.bit - 1)
        ctx.save_for_backward(kept)
        return count

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (kept,) = ctx.saved_tensors
        # A gradient that is itself differentiated needs operations that autograd knows.
        kernel = None if torch.is_grad_enabled() else kernels.find('fire_backward', grad)
        if kernel:
            kept = ctx.unpack(kept, dtype=torch.uint8) if ctx.unpack else kept
            return kernel(grad, kept, ctx.threshold, ctx.scale, ctx.bit), None, None, None, None
        if ctx.unpack is None:
            return _fire_backward(grad, kept, ctx.threshold, ctx.scale, ctx.bit), None, None, None, None
        passes = ctx.unpack(kept, dtype=grad.dtype, mask=1, shift=3)
        return _pass_on(grad, passes, ctx.threshold, ctx.scale), None, None, None, None


_HALF = torch.tensor(0.5, device='cpu')
PIECE = 2**19
"""Values that a CPU works on at a time: few enough that the next operation finds them in the cache."""


def _fire(
    membrane: Tensor, threshold: float, levels: int, scale: float, bit: int, rounding: str = 'half_up'
) -> tuple[Tensor, Tensor | None]:
    """Scaled counts, and a byte for each: ``bit`` where the gradient passes and, if that is above 1, the count."""
    count = torch.empty_like(membrane)
    kept = torch.empty_like(membrane, dtype=torch.uint8) if bit else None
    if membrane.device.type != 'cpu' or membrane.stride() != count.stride() or membrane.numel() <= PIECE:
        _fire_into(count, kept, membrane, threshold, levels, scale, bit, rounding)
        return count, kept
    flat = [None if x is None else x.as_strided((x.numel(),), (1,)).split(PIECE) for x in (count, kept, membrane)]
    for pieces in zip(flat[0], flat[1] or repeat(None), flat[2]):
        _fire_into(*pieces, threshold, levels, scale, bit, rounding)
    return count, kept


def _fire_into(
    count: Tensor,
    kept: Tensor | None,
    membrane: Tensor,
    threshold: float,
    levels: int,
    scale: float,
    bit: int,
    rounding: str,
) -> None:
    """:func:`_fire`, its results written to ``count`` and ``kept``."""
    if rounding == 'half_even':
        if threshold == 1.0:
            torch.round(membrane, out=count)
        else:
            torch.div(membrane, threshold, out=count).round_()
    # By a power of two, whose inverse is exact, division and sum are one operation.
    elif membrane.device.type == 'cpu' and math.frexp(threshold)[0] == 0.5:
        torch.add(_HALF, membrane, alpha=1 / threshold, out=count).floor_()
    else:
        torch.div(membrane, threshold, out=count).add_(0.5).floor_()
    count.clamp_(0, levels)
    if bit:
        inside = membrane.clamp(0, levels * threshold)
        # Ones and zeros of the membrane's type: a comparison that makes booleans is several times as slow on CPUs.
        torch.eq(inside, membrane, out=inside)
        if bit > 1:  # one byte serves this gradient and those of all that read the spikes
            # Within int8: -0x80 and 0x80 are the same byte.
            torch.add(count, inside, alpha=bit if bit < INSIDE else -INSIDE, out=inside)
        kept.view(torch.int8).copy_(inside)  # to int8 is several times as fast
    if scale != 1.0:
        count.mul_(scale)


def _fire_backward(grad: Tensor, kept: Tensor, threshold: float, scale: float, bit: int) -> Tensor:
    """Gradient of the membrane from that of the scaled counts."""
    return _pass_on(grad, (kept >> (bit.bit_length() - 1)).to(grad.dtype), threshold, scale)


def _pass_on(grad: Tensor, passes: Tensor, threshold: float, scale: float) -> Tensor:
    """``grad * passes * scale / threshold``, in the place of ``passes``: ones and zeros.

    Of the type of ``grad``, for a product of two types is slow on CPUs.
    """
    passes = passes.mul_(grad)
    if scale == threshold and math.frexp(scale)[0] == 0.5:  # a power of two: nothing is rounded
        return passes
    passes = passes if scale == 1.0 else passes.mul_(scale)
    return passes if threshold == 1.0 else passes.div_(threshold)


def spike_count(membrane: Tensor, threshold: float = 1.0, levels: int = 4, rounding: str = 'half_up') -> Tensor:
    """Number of spikes that a membrane potential fires.

    ``n = clip(round(u / threshold), 0, D)``. Exactly on a half, 'half_up' is ``floor(u / threshold + 0.5)``: the d-th
    spike fires when ``u >= (d - 0.5) * threshold``; 'half_even' is ``torch.round``: the same for even d, while for odd
    d it fires when ``u > (d - 0.5) * threshold``.
    Gradient: ``dn/du = 1 / threshold`` for ``0 <= u <= D * threshold``, else 0 (straight-through).

    Args:
        membrane: membrane potential u, any shape.
        threshold: firing threshold, in units of u.
        levels: D, the highest count.
        rounding: 'half_up' or 'half_even'.

    Returns:
        Counts, same shape and dtype. Not-a-number stays not-a-number.

    Raises:
        ValueError: there is no such rule.

    Source: SFA (arXiv 2411.16061), integer training.
    """
    check_rounding(rounding)
    return _SpikeCount.apply(membrane, threshold, levels, 1.0, rounding)


def scaled_spikes(membrane: Tensor, threshold: float, levels: int, scale: float, rounding: str = 'half_up') -> Tensor:
    """``scale * spike_count(...)`` of the same arguments in one function, with one byte kept for all gradients."""
    check_rounding(rounding)
    return _SpikeCount.apply(membrane, threshold, levels, scale, rounding)


def integrate_and_fire_step(
    inputs: Tensor,
    carried: Tensor | None,
    threshold: float,
    levels: int,
    decay: float = 1.0,
    rounding: str = 'half_up',
) -> tuple[Tensor, Tensor]:
    """One time step of an integer integrate-and-fire neuron with soft reset.

    ``u = h + x;  n = spike_count(u);  h' = decay * (u - n * threshold)``

    Args:
        inputs: x, the input current of this step, any shape.
        carried: h, the membrane left by the step before, same shape; None for the first step (h = 0).
        threshold, levels, rounding: as in :func:`spike_count`.
        decay: factor on what is carried over; 1 keeps all of it.

    Returns:
        ``(n, h')``: counts and the membrane handed to the next step. Gradients flow through both.

    Source: SFA (arXiv 2411.16061), for T > 1.
    """
    membrane = inputs if carried is None else carried + inputs
    count = spike_count(membrane, threshold, levels, rounding)
    return count, decay * (membrane - count * threshold)


def integrate_and_fire(
    inputs: Tensor,
    time_steps: int,
    threshold: float,
    levels: int,
    decay: float,
    scale: float,
    rounding: str = 'half_up',
) -> Tensor | None:
    """All steps of :func:`integrate_and_fire_step` in one kernel; None where none serves.

    Args:
        inputs: ``(T * N, ...)``, time first.
        time_steps: T.
        threshold, levels, decay, rounding: as in :func:`integrate_and_fire_step`.
        scale: worth of a spike.

    Returns:
        ``scale * n``, same shape.
    """
    walk = kernels.find('integrate_and_fire', inputs)
    # The count is to fit a byte, and a kernel holds each step's instructions.
    if walk is None or levels >= INSIDE or time_steps > 32 or len(inputs) % time_steps:
        return None
    return walk(inputs, time_steps, threshold, levels, decay, scale, rounding)


class _BinarySpike(torch.autograd.Function):
    """Heaviside step with a smooth surrogate derivative."""

    @staticmethod
    def forward(ctx, excess: Tensor, surrogate: str, alpha: float) -> Tensor:
        ctx.save_for_backward(excess)
        ctx.surrogate, ctx.alpha = surrogate, alpha
        return (excess >= 0).to(excess.dtype)

    @staticmethod
    def backward(ctx, grad_spike: Tensor) -> tuple[Tensor, None, None]:
        (excess,) = ctx.saved_tensors
        alpha = ctx.alpha
        if ctx.surrogate == 'sigmoid':
            s = torch.sigmoid(alpha * excess)
            slope = alpha * s * (1 - s)
        else:
            slope = alpha / 2 / (1 + (math.pi / 2 * alpha * excess) ** 2)
        return grad_spike * slope, None, None


SURROGATES = ('sigmoid', 'atan')


def binary_spike(excess: Tensor, surrogate: str = 'sigmoid', alpha: float = 4.0) -> Tensor:
    """A spike (1) where the membrane is at or above its threshold, else 0.

    Backward uses the derivative of ``sigmoid(alpha * e)``, or of ``atan(pi/2 * alpha * e) / pi + 1/2``.

    Args:
        excess: membrane minus threshold, any shape.
        surrogate: 'sigmoid' or 'atan'.
        alpha: steepness of the surrogate.

    Source: Neftci et al., "Surrogate gradient learning in spiking neural networks" (2019).
    """
    return _BinarySpike.apply(excess, surrogate, alpha)


def lif_step(
    inputs: Tensor,
    carried: Tensor | None,
    threshold: float,
    tau: float,
    reset: float = 0.0,
    surrogate: str = 'sigmoid',
    alpha: float = 4.0,
) -> tuple[Tensor, Tensor]:
    """One time step of a leaky integrate-and-fire neuron with hard reset.

    ``u = h + (x - (h - reset)) / tau;  s = [u >= threshold];  h' = s * reset + (1 - s) * u``

    Args:
        inputs: x, any shape.
        carried: h, same shape; None for the first step (h = reset).
        threshold, tau, reset: firing threshold, membrane time constant (> 1 leaks, 1 forgets), reset potential.
        surrogate, alpha: as in :func:`binary_spike`.

    Returns:
        ``(s, h')``: binary spikes and the membrane handed on.
    """
    carried = inputs.new_full((), reset) if carried is None else carried
    membrane = carried + (inputs - (carried - reset)) / tau
    spike = binary_spike(membrane - threshold, surrogate, alpha)
    return spike, torch.where(spike.detach().bool(), membrane.new_full((), reset), membrane)
