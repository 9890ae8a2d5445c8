"""The integrate-and-fire neuron over T steps in one pass: its membrane stays in registers from step to step."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from qsdt_mm.ops import compact_saving
from qsdt_mm.ops.layout import dense, laid_out
from qsdt_mm.ops.spiking import INSIDE

from .arithmetic import block, narrowed, rounded, widened
from .neuron import BLOCK, byte_of, count_of, grid, in_dtype, passed


@triton.jit
def _walk(
    inputs,
    spikes,
    kept,
    size,
    threshold,
    max_spike_count,
    top,
    scale,
    decay,
    STEPS: tl.constexpr,
    EVEN: tl.constexpr,
    BIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    dtype: tl.constexpr = inputs.dtype.element_ty
    at = block(BLOCK)
    here = at < size
    carried = tl.full((BLOCK,), 0.0, tl.float32)
    for t in tl.static_range(STEPS):
        membrane = widened(tl.load(inputs + at, mask=here))
        if t > 0:
            membrane = rounded(carried + membrane, dtype)
        count = count_of(membrane, threshold, max_spike_count, EVEN, dtype)
        tl.store(spikes + at, narrowed(rounded(count * scale, dtype), dtype), mask=here)
        if BIT > 0:
            tl.store(kept + at, byte_of(membrane, count, top, BIT), mask=here)
        carried = rounded(rounded(membrane - rounded(count * threshold, dtype), dtype) * decay, dtype)
        at += size


@triton.jit
def _walk_back(
    grads,
    kept,
    result,
    size,
    last,
    threshold,
    scale,
    decay,
    STEPS: tl.constexpr,
    BIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    dtype: tl.constexpr = grads.dtype.element_ty
    at = block(BLOCK)
    here = at < size
    at += last
    of_membrane = tl.full((BLOCK,), 0.0, tl.float32)
    for i in tl.static_range(STEPS):  # the last step first, which hands its membrane to nobody
        of_count = rounded(widened(tl.load(grads + at, mask=here)) * scale, dtype)
        byte = tl.load(kept + at, mask=here)
        if i > 0:
            left = rounded(of_membrane * decay, dtype)
            of_count = rounded(of_count - rounded(left * threshold, dtype), dtype)
            of_membrane = rounded(left + passed(of_count, byte, threshold, BIT, dtype), dtype)
        else:
            of_membrane = passed(of_count, byte, threshold, BIT, dtype)
        tl.store(result + at, narrowed(of_membrane, dtype), mask=here)
        at -= size


class _IntegrateAndFire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        inputs: Tensor,
        time_steps: int,
        threshold: float,
        max_spike_count: int,
        decay: float,
        scale: float,
        rounding: str,
    ) -> Tensor:
        compact = compact_saving.is_compact()
        bit = INSIDE if compact or ctx.needs_input_grad[0] else 0
        spikes, kept = walk(inputs, time_steps, threshold, max_spike_count, decay, scale, bit, rounding)
        if compact:
            compact_saving.register_product(spikes, scale, kept, INSIDE - 1)
        ctx.save_for_backward(kept)
        ctx.constants = time_steps, threshold, decay, scale
        return spikes

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        (kept,) = ctx.saved_tensors
        # A gradient that is itself differentiated needs operations that autograd knows.
        back = walk_back_plainly if torch.is_grad_enabled() else walk_back
        return back(grad, kept, *ctx.constants), None, None, None, None, None, None


def integrate_and_fire(
    inputs: Tensor,
    time_steps: int,
    threshold: float,
    max_spike_count: int,
    decay: float,
    scale: float,
    rounding: str = 'half_up',
) -> Tensor:
    """Compute scaled counts of inputs ``(T * N, ...)``, differentiable, with one byte kept for all gradients.

    Args:
        inputs: input currents, time first.
        time_steps: T.
        threshold, max_spike_count, decay, rounding: as in
            :func:`~qsdt_mm.models.neurons.functional.integrate_and_fire_step`.
        scale: worth of a spike.
    """
    return _IntegrateAndFire.apply(inputs, time_steps, threshold, max_spike_count, decay, scale, rounding)


def walk(
    inputs: Tensor,
    time_steps: int,
    threshold: float,
    max_spike_count: int,
    decay: float,
    scale: float,
    bit: int,
    rounding: str = 'half_up',
) -> tuple[Tensor, Tensor | None]:
    """Compute scaled counts, and a byte for each: the count, and ``bit`` where the gradient passes; none for 0."""
    inputs = dense(inputs, rows_first=True)
    spikes, kept = torch.empty_like(inputs), torch.empty_like(inputs, dtype=torch.uint8) if bit else None
    top, size = in_dtype(max_spike_count * threshold, inputs.dtype), inputs.numel() // time_steps
    with torch.cuda.device_of(inputs):
        # Without fused products and sums: they round once where torch rounds twice.
        _walk[grid(size)](
            inputs,
            spikes,
            kept,
            size,
            threshold,
            float(max_spike_count),
            top,
            scale,
            decay,
            time_steps,
            rounding == 'half_even',
            bit,
            BLOCK,
            enable_fp_fusion=False,
        )
    return spikes, kept


def walk_back(grad: Tensor, kept: Tensor, time_steps: int, threshold: float, decay: float, scale: float) -> Tensor:
    """Compute the gradient of the inputs from that of the scaled counts."""
    grad, result = laid_out(grad, kept), torch.empty_like(kept, dtype=grad.dtype)
    size = grad.numel() // time_steps
    with torch.cuda.device_of(grad):
        _walk_back[grid(size)](
            grad,
            kept,
            result,
            size,
            (time_steps - 1) * size,
            threshold,
            scale,
            decay,
            time_steps,
            INSIDE,
            BLOCK,
            enable_fp_fusion=False,
        )
    return result


def walk_back_plainly(
    grad: Tensor, kept: Tensor, time_steps: int, threshold: float, decay: float, scale: float
) -> Tensor:
    """Compute :func:`walk_back` in plain operations."""
    later, found = None, []
    for of_count, byte in reversed(list(zip((grad * scale).chunk(time_steps), kept.chunk(time_steps)))):
        left = 0 if later is None else later * decay
        of_count = of_count if later is None else of_count - left * threshold
        later = left + of_count * (byte >= INSIDE) / threshold
        found.insert(0, later)
    return torch.cat(found)
