"""The neuron in one pass over memory: spikes and the kept byte forward, the gradient backward."""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from qsdt_mm.ops.layout import dense, laid_out

from .arithmetic import block, clipped, divided, narrowed, rint, rounded, widened

BLOCK = 1024


@triton.jit
def count_of(membrane, threshold, max_spike_count, EVEN: tl.constexpr, dtype: tl.constexpr):
    """Count ``clip(round(u / threshold), 0, D)``, halves to even or up."""
    ratio = divided(membrane, threshold, dtype)
    if EVEN:  # noqa: SIM108  clipped first, for rint ends at 2^22
        count = rint(clipped(ratio, 0.0, max_spike_count))
    else:
        count = clipped(tl.floor(rounded(ratio + 0.5, dtype)), 0.0, max_spike_count)
    return count


@triton.jit
def byte_of(membrane, count, top, BIT: tl.constexpr):
    """Make the byte to keep: ``BIT`` where the gradient passes and, unless that is the lowest bit, the count."""
    byte = tl.where((membrane >= 0) & (membrane <= top), BIT, 0)
    if BIT > 1:
        byte += tl.where(count == count, count, 0.0).to(tl.int32)
    return byte.to(tl.uint8)


@triton.jit
def passed(grad, byte, threshold, BIT: tl.constexpr, dtype: tl.constexpr):
    """Compute the gradient of the membrane from that of the count."""
    # A product, as in the plain function: what is not finite does not vanish.
    return divided(rounded(grad * tl.where(byte >= BIT, 1.0, 0.0), dtype), threshold, dtype)


@triton.jit
def _fire(
    membranes,
    spikes,
    kept,
    size,
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
    membrane = widened(tl.load(membranes + at, mask=at < size))
    count = count_of(membrane, threshold, max_spike_count, EVEN, dtype)
    tl.store(spikes + at, narrowed(rounded(count * scale, dtype), dtype), mask=at < size)
    if BIT > 0:
        tl.store(kept + at, byte_of(membrane, count, top, BIT), mask=at < size)


@triton.jit
def _fire_backward(grads, kept, result, size, threshold, scale, BIT: tl.constexpr, BLOCK: tl.constexpr):
    dtype: tl.constexpr = grads.dtype.element_ty
    at = block(BLOCK)
    grad = rounded(widened(tl.load(grads + at, mask=at < size)) * scale, dtype)
    byte = tl.load(kept + at, mask=at < size)
    tl.store(result + at, narrowed(passed(grad, byte, threshold, BIT, dtype), dtype), mask=at < size)


@lru_cache
def in_dtype(value: float, dtype: torch.dtype) -> float:
    """Return a number as torch compares tensors of ``dtype`` with it."""
    return torch.tensor(value, dtype=dtype, device='cpu').item()


def grid(size: int) -> tuple[int]:
    """Return the programs for so many elements."""
    return (-(-size // BLOCK),)


def fire(
    membrane: Tensor, threshold: float, max_spike_count: int, scale: float, bit: int, rounding: str = 'half_up'
) -> tuple[Tensor, Tensor | None]:
    """Compute scaled counts, and a byte for each: ``bit`` where the gradient passes and, if above 1, the count."""
    membrane = dense(membrane)
    spikes, kept = torch.empty_like(membrane), torch.empty_like(membrane, dtype=torch.uint8) if bit else None
    top, max_spike_count = (
        in_dtype(max_spike_count * threshold, membrane.dtype),
        in_dtype(max_spike_count, membrane.dtype),
    )
    size = membrane.numel()
    with torch.cuda.device_of(membrane):
        # Without fused products and sums: they round once where torch rounds twice.
        _fire[grid(size)](
            membrane,
            spikes,
            kept,
            size,
            threshold,
            max_spike_count,
            top,
            scale,
            rounding == 'half_even',
            bit,
            BLOCK,
            enable_fp_fusion=False,
        )
    return spikes, kept


def fire_backward(grad: Tensor, kept: Tensor, threshold: float, scale: float, bit: int) -> Tensor:
    """Compute the gradient of the membrane from that of the scaled counts."""
    grad, result = laid_out(grad, kept), torch.empty_like(kept, dtype=grad.dtype)
    size = grad.numel()
    with torch.cuda.device_of(grad):
        _fire_backward[grid(size)](grad, kept, result, size, threshold, scale, bit, BLOCK, enable_fp_fusion=False)
    return result
