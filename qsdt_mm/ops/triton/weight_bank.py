"""The LSQ quantizer for many layers in one launch, a program for each output channel of each.

Layers lie anywhere in memory: a table holds their addresses. It is made anew only when one of them moves.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from qsdt_mm.ops.holding import hold, is_holding
from qsdt_mm.ops.lsq import MIN_STEP
from qsdt_mm.ops.weight_bank import parts_of, starts_of

from .arithmetic import added, clipped, divided, narrowed, rint, rounded, widened
from .neuron import in_dtype

BLOCK = 512
TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


@triton.jit
def _quantize_many(
    weights,
    steps,
    layers,
    channels,
    widths,
    starts,
    lows,
    highs,
    result,
    floor,
    SOURCE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    target: tl.constexpr = result.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    layer, channel = tl.load(layers + row), tl.load(channels + row)
    width, low, high = tl.load(widths + layer), tl.load(lows + layer), tl.load(highs + layer)
    weight = tl.load(weights + layer).to(tl.pointer_type(SOURCE)) + channel * width
    step = tl.abs(
        widened(tl.load(tl.load(steps + layer).to(tl.pointer_type(SOURCE)) + channel, mask=high > 0, other=1.0))
    )
    step = tl.where(step < floor, floor, step)
    part = result + tl.load(starts + layer) + channel * width
    for first in range(0, width, BLOCK):
        column = first + tl.arange(0, BLOCK)
        real = widened(tl.load(weight + column, mask=column < width, other=0.0))
        integer = rint(clipped(divided(real, step, SOURCE), low, high))
        value = tl.where(high > 0, rounded(integer * step, SOURCE), real)
        tl.store(part + column, narrowed(rounded(value, target), target), mask=column < width)


@triton.jit
def _quantize_many_backward(
    grads,
    places,
    weights,
    steps,
    layers,
    channels,
    widths,
    starts,
    lows,
    highs,
    scales,
    weight_grads,
    step_grads,
    floor,
    GRAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    dtype: tl.constexpr = weight_grads.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    layer, channel = tl.load(layers + row), tl.load(channels + row)
    width, low, high = tl.load(widths + layer), tl.load(lows + layer), tl.load(highs + layer)
    at = channel * width
    grad_at = tl.load(grads + layer).to(tl.pointer_type(GRAD)) + at
    places_of_one = tl.load(places + layer)
    weight_at = tl.load(weights + layer).to(tl.pointer_type(dtype)) + at
    raw = widened(tl.load(tl.load(steps + layer).to(tl.pointer_type(dtype)) + channel, mask=high > 0, other=1.0))
    step = tl.abs(raw)
    step = tl.where(step < floor, floor, step)
    part = weight_grads + tl.load(starts + layer) + at
    quantized = tl.where(high > 0, width, 0)  # of a layer that is not, the gradient alone is read
    total = tl.full((BLOCK,), 0.0, tl.float32)
    for first in range(0, width, BLOCK):
        column = first + tl.arange(0, BLOCK)
        here = column % places_of_one * (width // places_of_one) + column // places_of_one
        grad = rounded(widened(tl.load(grad_at + here, mask=column < width, other=0.0)), dtype)
        weight = widened(tl.load(weight_at + column, mask=column < quantized, other=0.0))
        ratio = divided(weight, step, dtype)
        inside = (ratio >= low) & (ratio <= high)
        integer = rint(clipped(ratio, low, high))
        slope = tl.where(inside, rounded(integer - ratio, dtype), integer)
        total += rounded(grad * slope, dtype)
        passed = tl.where(high > 0, grad * tl.where(inside, 1.0, 0.0), grad)
        tl.store(part + column, narrowed(passed, dtype), mask=column < width)
    summed = rounded(rounded(tl.reduce(total, 0, added), dtype) * tl.load(scales + layer), dtype)
    sign = tl.where(raw > 0, 1.0, tl.where(raw < 0, -1.0, raw * 0.0))
    tl.store(step_grads + row, narrowed(rounded(summed * sign, dtype), dtype))


class _Rows(NamedTuple):
    """Tables of what never changes: the layer of each program and its channel; sizes and ranges of each layer."""

    layers: Tensor
    channels: Tensor
    widths: Tensor
    starts: Tensor
    lows: Tensor
    highs: Tensor
    scales: Tensor


def on_device(values: list, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a list as a tensor on a device, without waiting for the device."""
    table = torch.tensor(values, dtype=dtype, device='cpu')
    return table.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else table


@lru_cache(maxsize=256)
def rows_of(
    channels: tuple[int, ...],
    widths: tuple[int, ...],
    starts: tuple[int, ...],
    ranges: tuple[tuple[int, int], ...],
    device: torch.device,
) -> _Rows:
    """Make the tables for layers of these sizes; the range of one that is not quantized is ``(0, 0)``."""
    scales = [1 / math.sqrt(n * width * high) if high else 1.0 for n, width, (_, high) in zip(channels, widths, ranges)]
    lists = (
        ([layer for layer, n in enumerate(channels) for _ in range(n)], torch.int32),
        ([channel for n in channels for channel in range(n)], torch.int64),
        (widths, torch.int64),
        (starts, torch.int64),
        ([float(low) for low, _ in ranges], torch.float32),
        ([float(high) for _, high in ranges], torch.float32),
        (scales, torch.float32),
    )
    return _Rows(*(on_device(list(values), dtype, device) for values, dtype in lists))


_tables: OrderedDict[tuple, Tensor] = OrderedDict()
_tables_lock = threading.Lock()
MOST_TABLES = 128


def table(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Return addresses or sizes on the device; the same tensor as long as nothing moves.

    Where launches are captured, addresses not met before belong to memory of the graph's own, and launches of the graph
    write them: no copy from the host can be part of it.
    """
    key = values, device
    with _tables_lock:
        found = _tables.get(key)
        if found is not None:
            _tables.move_to_end(key)
            return found
    if is_holding():
        found = torch.empty(len(values), dtype=torch.int64, device=device)
        for place, value in zip(found.unbind(), values):
            place.fill_(value)
        return found
    found = on_device(list(values), torch.int64, device)
    with _tables_lock:
        _tables[key] = found
        while len(_tables) > MOST_TABLES:
            _tables.popitem(last=False)
    return found


def held_table(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Return :func:`table`, noted for whoever repeats the launch."""
    found = table(values, device)
    hold(found)
    return found


def addresses(tensors: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """Return the addresses of tensors, 0 for none, on the device."""
    return held_table(tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors), device)


def by_channel(grad: Tensor) -> Tensor:
    """Return a gradient each of whose output channels is one stretch of memory, channels of the input first or last."""
    last = grad.dim() == 4 and grad.is_contiguous(memory_format=torch.channels_last)
    return grad if last or grad.is_contiguous() else grad.contiguous()


def places_of(grad: Tensor) -> int:
    """Count the places of a kernel whose gradient lies with channels last; 1 where it lies as weights do."""
    return 1 if grad.is_contiguous() else grad.shape[2:].numel()


def rows_in(weight: Tensor) -> int:
    """Count the programs for a weight: its output channels; 1 for a bias, which is a single row."""
    return len(weight) if weight.dim() > 1 else 1


def sizes(like: Sequence[Tensor], steps: Sequence[Tensor | None], ranges: Sequence[tuple[int, int]]) -> _Rows:
    """Return the tables of what never changes, for weights of these shapes."""
    rows = rows_of(
        tuple(rows_in(w) for w in like),
        tuple(w.numel() // rows_in(w) for w in like),
        tuple(starts_of(like)[:-1]),
        tuple((0, 0) if step is None else limits for step, limits in zip(steps, ranges)),
        like[0].device,
    )
    hold(*rows)
    return rows


def quantize_many(
    weights: Sequence[Tensor],
    steps: Sequence[Tensor | None],
    ranges: Sequence[tuple[int, int]],
    dtype: torch.dtype,
) -> Tensor:
    """Quantize the weights of many layers into one buffer."""
    rows = sizes(weights, steps, ranges)
    flat = weights[0].new_empty(starts_of(weights)[-1], dtype=dtype)
    source = weights[0].dtype
    with torch.cuda.device_of(flat):
        # Without fused products and sums: they round once where torch rounds twice.
        _quantize_many[(len(rows.layers),)](
            addresses(weights, flat.device),
            addresses(steps, flat.device),
            *rows[:-1],
            flat,
            in_dtype(MIN_STEP, source),
            TYPES[source],
            BLOCK,
            enable_fp_fusion=False,
        )
    return flat


def quantize_many_backward(
    grads: Sequence[Tensor],
    weights: Sequence[Tensor | None],
    steps: Sequence[Tensor | None],
    ranges: Sequence[tuple[int, int]],
    dtype: torch.dtype,
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Compute gradients of the weights and of the learned steps."""
    grads = [by_channel(grad) for grad in grads]
    rows = sizes(grads, steps, ranges)
    flat = grads[0].new_empty(starts_of(grads)[-1], dtype=dtype)
    flat_steps = grads[0].new_empty(len(rows.layers), dtype=dtype)
    with torch.cuda.device_of(flat):
        _quantize_many_backward[(len(rows.layers),)](
            addresses(grads, flat.device),
            held_table(tuple(places_of(grad) for grad in grads), flat.device),
            addresses(weights, flat.device),
            addresses(steps, flat.device),
            *rows,
            flat,
            flat_steps,
            in_dtype(MIN_STEP, flat.dtype),
            TYPES[grads[0].dtype],
            BLOCK,
            enable_fp_fusion=False,
        )
    summed = flat_steps.split([rows_in(grad) for grad in grads])
    return parts_of(flat, grads), [None if step is None else part for part, step in zip(summed, steps)]
