"""The LSQ quantizer, a program for each output channel: weights forward, both gradients backward."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from qsdt_mm.ops.layout import dense, laid_out

from .arithmetic import added, clipped, divided, narrowed, rint, rounded, widened

LARGEST_BLOCK = 1024


@triton.jit
def _quantize(weights, steps, result, width, low, high, BLOCK: tl.constexpr, BLOCKS: tl.constexpr):
    dtype: tl.constexpr = weights.dtype.element_ty
    channel = tl.program_id(0).to(tl.int64)
    step = widened(tl.load(steps + channel))
    for i in range(BLOCKS):
        column = i * BLOCK + tl.arange(0, BLOCK)
        at = channel * width + column
        weight = widened(tl.load(weights + at, mask=column < width))
        integer = rint(clipped(divided(weight, step, dtype), low, high))
        tl.store(result + at, narrowed(rounded(integer * step, dtype), dtype), mask=column < width)


@triton.jit
def _quantize_backward(
    grads,
    weights,
    steps,
    weight_grads,
    step_grads,
    width,
    low,
    high,
    scale,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    dtype: tl.constexpr = weights.dtype.element_ty
    channel = tl.program_id(0).to(tl.int64)
    step = widened(tl.load(steps + channel))
    total = tl.full((BLOCK,), 0.0, tl.float32)
    for i in range(BLOCKS):
        column = i * BLOCK + tl.arange(0, BLOCK)
        at = channel * width + column
        grad = widened(tl.load(grads + at, mask=column < width, other=0.0))
        ratio = divided(widened(tl.load(weights + at, mask=column < width, other=0.0)), step, dtype)
        inside = (ratio >= low) & (ratio <= high)
        integer = rint(clipped(ratio, low, high))
        slope = tl.where(inside, rounded(integer - ratio, dtype), integer)
        total += rounded(grad * slope, dtype)
        tl.store(weight_grads + at, narrowed(grad * tl.where(inside, 1.0, 0.0), dtype), mask=column < width)
    summed = rounded(tl.reduce(total, 0, added), dtype)
    tl.store(step_grads + channel, narrowed(rounded(summed * scale, dtype), dtype))


def blocks(width: int) -> tuple[int, int]:
    """Return the width of a block, a power of two, and the number of blocks in a channel."""
    block = min(triton.next_power_of_2(width), LARGEST_BLOCK)
    return block, -(-width // block)


def quantize(weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Quantize the weight."""
    weight, step = dense(weight, rows_first=True), step.contiguous()
    result = torch.empty_like(weight)
    channels, width = step.numel(), weight.numel() // step.numel()
    with torch.cuda.device_of(weight):
        _quantize[(channels,)](
            weight, step, result, width, float(low), float(high), *blocks(width), enable_fp_fusion=False
        )
    return result


def quantize_backward(grad: Tensor, weight: Tensor, step: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Compute gradients of the weight and of the steps."""
    weight, step = dense(weight, rows_first=True), step.contiguous()
    grad = laid_out(grad, weight)
    of_weight, of_step = torch.empty_like(weight), torch.empty_like(step)
    channels, width = step.numel(), weight.numel() // step.numel()
    scale = 1 / math.sqrt(weight.numel() * high)
    with torch.cuda.device_of(weight):
        # Without fused products and sums: they round once where torch rounds twice.
        _quantize_backward[(channels,)](
            grad,
            weight,
            step,
            of_weight,
            of_step,
            width,
            float(low),
            float(high),
            scale,
            *blocks(width),
            enable_fp_fusion=False,
        )
    return of_weight, of_step
