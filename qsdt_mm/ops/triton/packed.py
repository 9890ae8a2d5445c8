"""The neuron whose spikes are kept in half bytes: written where it fires, restored in one pass, read by its gradient.

Program i serves values i and i + n of the memory, n the number of bytes, which share a byte.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from qsdt_mm.ops.layout import dense, laid_out
from qsdt_mm.ops.spiking import INSIDE_HALF

from .arithmetic import block, narrowed, rounded, widened
from .neuron import BLOCK, byte_of, count_of, grid, in_dtype, passed


@triton.jit
def _fire_half(
    membranes,
    spikes,
    at,
    mask,
    threshold,
    max_spike_count,
    top,
    scale,
    EVEN: tl.constexpr,
    BIT: tl.constexpr,
    dtype: tl.constexpr,
):
    membrane = widened(tl.load(membranes + at, mask=mask, other=0.0))
    count = count_of(membrane, threshold, max_spike_count, EVEN, dtype)
    tl.store(spikes + at, narrowed(rounded(count * scale, dtype), dtype), mask=mask)
    return byte_of(membrane, count, top, BIT)


@triton.jit
def _fire_packed(
    membranes,
    spikes,
    packed,
    size,
    half,
    threshold,
    max_spike_count,
    top,
    scale,
    EVEN: tl.constexpr,
    BIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    dtype: tl.constexpr = membranes.dtype.element_ty
    at = block(BLOCK)
    here, there = at < half, at + half < size
    lower = _fire_half(membranes, spikes, at, here, threshold, max_spike_count, top, scale, EVEN, BIT, dtype)
    upper = _fire_half(membranes, spikes, at + half, there, threshold, max_spike_count, top, scale, EVEN, BIT, dtype)
    byte = lower.to(tl.int32) + tl.where(there, upper.to(tl.int32), 0) * 16
    tl.store(packed + at, byte.to(tl.uint8), mask=here)


@triton.jit
def _restore(spikes, packed, size, half, scale, BIT: tl.constexpr, BLOCK: tl.constexpr):
    dtype: tl.constexpr = spikes.dtype.element_ty
    at = block(BLOCK)
    here, there = at < half, at + half < size
    byte = tl.load(packed + at, mask=here, other=0).to(tl.int32)
    lower, upper = (byte & (BIT - 1)).to(tl.float32), ((byte >> 4) & (BIT - 1)).to(tl.float32)
    tl.store(spikes + at, narrowed(rounded(lower * scale, dtype), dtype), mask=here)
    tl.store(spikes + at + half, narrowed(rounded(upper * scale, dtype), dtype), mask=there)


@triton.jit
def _fire_packed_backward(grads, packed, result, size, half, threshold, scale, BIT: tl.constexpr, BLOCK: tl.constexpr):
    dtype: tl.constexpr = grads.dtype.element_ty
    at = block(BLOCK)
    here, there = at < half, at + half < size
    byte = tl.load(packed + at, mask=here, other=0).to(tl.int32)
    lower = rounded(widened(tl.load(grads + at, mask=here, other=0.0)) * scale, dtype)
    upper = rounded(widened(tl.load(grads + at + half, mask=there, other=0.0)) * scale, dtype)
    tl.store(result + at, narrowed(passed(lower, byte & 15, threshold, BIT, dtype), dtype), mask=here)
    tl.store(result + at + half, narrowed(passed(upper, byte >> 4, threshold, BIT, dtype), dtype), mask=there)


def fire_packed(
    membrane: Tensor, threshold: float, max_spike_count: int, scale: float, rounding: str = 'half_up'
) -> tuple[Tensor, Tensor]:
    """Compute scaled counts up to 7, and half a byte for each, as :func:`qsdt_mm.ops.spiking.fire_packed` does."""
    membrane = dense(membrane)
    size, half = membrane.numel(), (membrane.numel() + 1) // 2
    spikes = torch.empty_like(membrane)
    packed = torch.empty(half, dtype=torch.uint8, device=membrane.device)
    with torch.cuda.device_of(membrane):
        # Without fused products and sums: they round once where torch rounds twice.
        _fire_packed[grid(half)](
            membrane,
            spikes,
            packed,
            size,
            half,
            threshold,
            in_dtype(max_spike_count, membrane.dtype),
            in_dtype(max_spike_count * threshold, membrane.dtype),
            scale,
            rounding == 'half_even',
            INSIDE_HALF,
            BLOCK,
            enable_fp_fusion=False,
        )
    return spikes, packed


def restore_spikes(spikes: Tensor, packed: Tensor, scale: float) -> Tensor:
    """Write scaled counts into ``spikes``, of the strides that they had, from what :func:`fire_packed` gave."""
    size, half = spikes.numel(), packed.numel()
    with torch.cuda.device_of(spikes):
        _restore[grid(half)](spikes, packed, size, half, scale, INSIDE_HALF, BLOCK, enable_fp_fusion=False)
    return spikes


def fire_packed_backward(grad: Tensor, packed: Tensor, result: Tensor, threshold: float, scale: float) -> Tensor:
    """Write the gradient of the membrane into ``result``, of its strides, from that of the scaled counts."""
    grad = laid_out(grad, result)
    size, half = grad.numel(), packed.numel()
    with torch.cuda.device_of(grad):
        _fire_packed_backward[grid(half)](
            grad, packed, result, size, half, threshold, scale, INSIDE_HALF, BLOCK, enable_fp_fusion=False
        )
    return result
