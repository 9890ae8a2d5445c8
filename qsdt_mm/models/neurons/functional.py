"""Spiking neurons as pure functions of the membrane potential.

======  ================  ======================================================
symbol  name              meaning
======  ================  ======================================================
u       ``membrane``      membrane potential, real
h       ``carried``       membrane that is carried over to the next time step
n       count             spikes fired in one time step, in ``{0..D}``
theta   ``threshold``     firing threshold, in units of u
D       max_spike_count   highest count in one time step
T       ``time_steps``    number of time steps
scale   ``scale``         worth of one spike downstream: output = ``n * scale``
======  ================  ======================================================

Counts are integers in ``{0..D}`` carried in the dtype of the membrane, so that convolutions take them directly.
Sources: QSD ("Quantized Spike-driven Transformer", arXiv 2501.13492) and SFA ("Scaling Spike-driven Transformer with
Efficient Spike Firing Approximation Training", arXiv 2411.16061).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qsdt_mm.compat.tracing import is_recording
from qsdt_mm.errors import require
from qsdt_mm.ops import compact_saving, dispatch, spiking


def check_rounding(rounding: str) -> None:
    """Raise ``ValueError`` unless it is one of :data:`spiking.ROUNDINGS`."""
    require(rounding in spiking.ROUNDINGS, 'rounding', rounding, ' or '.join(spiking.ROUNDINGS))


class _SpikeCount(torch.autograd.Function):
    """``scale * clip(round(u / threshold), 0, D)`` with a straight-through gradient, whatever happens on a half."""

    @staticmethod
    def forward(ctx, membrane: Tensor, threshold: float, max_spike_count: int, scale: float, rounding: str) -> Tensor:
        compact = compact_saving.is_compact() and max_spike_count < spiking.INSIDE
        ctx.constants = threshold, scale
        ctx.bit = spiking.INSIDE if compact else int(ctx.needs_input_grad[0])
        fire = dispatch.find('fire', membrane) or spiking.fire
        count, kept = fire(membrane, threshold, max_spike_count, scale, ctx.bit, rounding)
        if compact:
            compact_saving.register_product(count, scale, kept, ctx.bit - 1)
        ctx.save_for_backward(kept)
        return count

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (kept,) = ctx.saved_tensors
        # A gradient that is itself differentiated needs operations that autograd knows.
        kernel = None if torch.is_grad_enabled() else dispatch.find('fire_backward', grad)
        return (kernel or spiking.fire_backward)(grad, kept, *ctx.constants, ctx.bit), None, None, None, None


class _PackedSpikeCount(torch.autograd.Function):
    """:class:`_SpikeCount` of at most 7 spikes while tensors are saved compactly: half a byte is kept of each count."""

    @staticmethod
    def forward(ctx, membrane: Tensor, threshold: float, max_spike_count: int, scale: float, rounding: str) -> Tensor:
        fire = dispatch.find('fire_packed', membrane) or spiking.fire_packed
        spikes, packed = fire(membrane, threshold, max_spike_count, scale, rounding)
        ctx.constants, ctx.strides = (threshold, scale), (spikes.shape, spikes.stride())
        register_packed(spikes, packed, scale)
        ctx.save_for_backward(packed)
        return spikes

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (packed,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient that is itself differentiated needs operations that autograd knows
            passes = compact_saving.unpack_nibbles(packed, *ctx.strides, grad.dtype, mask=1, shift=3)
            return spiking.pass_on(grad, passes, *ctx.constants), None, None, None, None
        result = grad.new_empty_strided(*ctx.strides)
        back = dispatch.find('fire_packed_backward', grad, result) or spiking.fire_packed_backward
        return back(grad, packed, result, *ctx.constants), None, None, None, None


def register_packed(spikes: Tensor, packed: Tensor, scale: float) -> None:
    """Register what :func:`spiking.fire_packed` gave."""
    shape, stride, dtype = spikes.shape, spikes.stride(), spikes.dtype

    def restore() -> Tensor:
        out = packed.new_empty_strided(shape, stride, dtype=dtype)
        return (dispatch.find('restore_spikes', out) or spiking.restore_spikes)(out, packed, scale)

    compact_saving.register(spikes, restore, (packed,))


def spike_count(
    membrane: Tensor, threshold: float = 1.0, max_spike_count: int = 4, rounding: str = 'half_up'
) -> Tensor:
    """Count the spikes that a membrane potential fires.

    ``n = clip(round(u / threshold), 0, D)``. Exactly on a half, 'half_up' is ``floor(u / threshold + 0.5)``: the d-th
    spike fires when ``u >= (d - 0.5) * threshold``; 'half_even' is ``torch.round``: the same for even d, while for odd
    d it fires when ``u > (d - 0.5) * threshold``.
    Gradient: ``dn/du = 1 / threshold`` for ``0 <= u <= D * threshold``, else 0 (straight-through).

    Args:
        membrane: membrane potential u, any shape.
        threshold: firing threshold, in units of u.
        max_spike_count: D, the highest count.
        rounding: 'half_up' or 'half_even'.

    Returns:
        Counts, same shape and dtype. Not-a-number stays not-a-number.

    Raises:
        ValueError: there is no such rule.

    Source: SFA (arXiv 2411.16061), integer training.
    """
    return scaled_spikes(membrane, threshold, max_spike_count, 1.0, rounding)


def scaled_spikes(
    membrane: Tensor, threshold: float, max_spike_count: int, scale: float, rounding: str = 'half_up'
) -> Tensor:
    """Compute ``scale * spike_count(...)`` of the same arguments at once; one byte, or half, serves all gradients."""
    check_rounding(rounding)
    if is_recording():
        return _recorded_spikes(membrane, threshold, max_spike_count, scale, rounding)
    few = max_spike_count < spiking.INSIDE_HALF and type(membrane) in dispatch.PLAIN
    count = _PackedSpikeCount if few and compact_saving.is_compact() else _SpikeCount
    return count.apply(membrane, threshold, max_spike_count, scale, rounding)


def _recorded_spikes(membrane: Tensor, threshold: float, max_spike_count: int, scale: float, rounding: str) -> Tensor:
    """Compute :func:`scaled_spikes` in operations that can be recorded, to the same bits."""
    ratio = membrane / threshold
    rounded = ratio.round() if rounding == 'half_even' else (ratio + 0.5).floor()
    count = rounded.clamp(0, max_spike_count)
    return count if scale == 1.0 else count * scale


def integrate_and_fire_step(
    inputs: Tensor,
    carried: Tensor | None,
    threshold: float,
    max_spike_count: int,
    decay: float | Tensor = 1.0,
    rounding: str = 'half_up',
) -> tuple[Tensor, Tensor]:
    """Advance an integer integrate-and-fire neuron with soft reset by one time step.

    ``u = h + x;  n = spike_count(u);  h' = decay * (u - n * threshold)``

    Args:
        inputs: x, the input current of this step, any shape.
        carried: h, the membrane left by the step before, same shape; None for the first step (h = 0).
        threshold, max_spike_count, rounding: as in :func:`spike_count`.
        decay: factor on what is carried over; 1 keeps all of it.

    Returns:
        ``(n, h')``: counts and the membrane handed to the next step. Gradients flow through both.

    Source: SFA (arXiv 2411.16061), for T > 1.
    """
    membrane = inputs if carried is None else carried + inputs
    count = spike_count(membrane, threshold, max_spike_count, rounding)
    return count, decay * (membrane - count * threshold)


def integrate_and_fire(
    inputs: Tensor,
    time_steps: int,
    threshold: float,
    max_spike_count: int,
    decay: float | Tensor,
    scale: float,
    rounding: str = 'half_up',
) -> Tensor | None:
    """Run all steps of :func:`integrate_and_fire_step` in one kernel; None where none serves.

    Args:
        inputs: ``(T * N, ...)``, time first.
        time_steps: T.
        threshold, max_spike_count, decay, rounding: as in :func:`integrate_and_fire_step`.
        scale: worth of a spike.

    Returns:
        ``scale * n``, same shape.
    """
    if isinstance(decay, Tensor):  # learned: a kernel has no gradient for it
        return None
    walk = dispatch.find('integrate_and_fire', inputs)
    # The count is to fit a byte, and a kernel holds each step's instructions.
    if walk is None or max_spike_count >= spiking.INSIDE or time_steps > 32 or len(inputs) % time_steps:
        return None
    return walk(inputs, time_steps, threshold, max_spike_count, decay, scale, rounding)


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
    """Fire a spike (1) where the membrane is at or above its threshold, else 0.

    Backward uses the derivative of ``sigmoid(alpha * e)``, or of ``atan(pi/2 * alpha * e) / pi + 1/2``.

    Args:
        excess: membrane minus threshold, any shape.
        surrogate: 'sigmoid' or 'atan'.
        alpha: steepness of the surrogate.

    Source: Neftci et al., "Surrogate gradient learning in spiking neural networks" (2019).
    """
    if is_recording():
        return (excess >= 0).to(excess.dtype)
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
    """Advance a leaky integrate-and-fire neuron with hard reset by one time step.

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
    return _fire_and_reset(carried + (inputs - (carried - reset)) / tau, threshold, reset, surrogate, alpha)


def parametric_lif_step(
    inputs: Tensor,
    carried: Tensor | None,
    w: Tensor,
    threshold: float,
    reset: float = 0.0,
    surrogate: str = 'sigmoid',
    alpha: float = 4.0,
) -> tuple[Tensor, Tensor]:
    """Advance a leaky integrate-and-fire neuron whose decay is learned by one time step.

    ``decay = sigmoid(w);  u = h + (1 - decay) * (x - (h - reset));
    s = [u >= threshold];  h' = s * reset + (1 - s) * u``

    :func:`lif_step` with ``tau = 1 / (1 - decay) = 1 + exp(w)``.

    Args:
        inputs: x, any shape.
        carried: h, same shape; None for the first step (h = reset).
        w: one number, ``(1,)``. Its gradient is summed in its own type, where x may be of half precision.
        threshold, reset, surrogate, alpha: as in :func:`lif_step`.

    Returns:
        ``(s, h')``: binary spikes and the membrane handed on, in the type of x.

    Source: Fang et al., "Incorporating learnable membrane time constant" (ICCV 2021), eq. 5 to 9, where w has the
    other sign.
    """
    carried = inputs.new_full((), reset) if carried is None else carried
    charge = _times(inputs - (carried - reset), torch.sigmoid(-w))  # 1 - decay, to the last bit near 0
    return _fire_and_reset(carried + charge, threshold, reset, surrogate, alpha)


def _fire_and_reset(
    membrane: Tensor, threshold: float, reset: float, surrogate: str, alpha: float
) -> tuple[Tensor, Tensor]:
    spike = binary_spike(membrane - threshold, surrogate, alpha)
    return spike, torch.where(spike.detach().bool(), membrane.new_full((), reset), membrane)


def _times(values: Tensor, factor: Tensor) -> Tensor:
    """Multiply ``values * factor`` in the type of the values, for one number that is learned."""
    if is_recording():
        return values * factor.to(values.dtype)
    return _Times.apply(values, factor)


class _Times(torch.autograd.Function):
    """A product with one number. In half precision the sum that is the number's gradient would overflow."""

    @staticmethod
    def forward(ctx, values: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(values, factor)
        return values * factor.to(values.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        values, factor = ctx.saved_tensors
        of_values = grad * factor.to(grad.dtype) if ctx.needs_input_grad[0] else None
        of_factor = None
        if ctx.needs_input_grad[1]:
            of_factor = (grad.to(factor.dtype) * values.to(factor.dtype)).sum().expand_as(factor)
        return of_values, of_factor
