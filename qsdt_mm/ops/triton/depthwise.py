"""The gradient of a depthwise convolution's weight, in one launch.

A program sums one line of the kernel over a stretch of the output's rows, a row being a place of an image, for a block
of channels; no two lanes meet before its end. The last program of a block and line to arrive adds up what all have
left, in order, so that a run gives the same bits twice.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from qsdt_mm.ops.depthwise import Window

from .arithmetic import added, narrowed, rounded, widened
from .arrivals import arrivals_of
from .batch_norm import Shape, ordered

BLOCK = 1024
"""Rows of a tile where a channel's lie together in memory."""
ROW_BLOCK = 16
CHANNEL_BLOCK = 64
"""Rows and channels of a tile where channels are last: eight sums for each thread and place of the kernel's line."""
PROGRAMS = 1024
"""Programs that the work is split into, about: enough for every multiprocessor."""
SHORTEST_STRETCH = 4
"""Tiles that a program sums at least, where there are more than one program's."""
MOST_SPLITS = 128
SPLIT_BLOCK = 32
"""Stretches whose sums are added up at a time."""

# For these a kernel would be compiled again and again, and be no faster.
VARY = ('rows', 'stretch', 'splits', 'HEIGHT', 'WIDTH', 'OUT_HEIGHT', 'OUT_WIDTH', 'PADDING_Y', 'PADDING_X')


@triton.jit
def _product(grad, xs, line, column, inside, WIDTH, STEP):
    inside = inside & ((column >= 0) & (column < WIDTH))[:, None]
    x = tl.load(xs + line + (column * STEP)[:, None], mask=inside, other=0.0)
    return tl.where(inside, grad, 0.0) * widened(x)


@triton.jit
def _leave(parts, place, sums, channel, CHANNELS):
    tl.store(parts + place * CHANNELS + channel, tl.reduce(sums, 0, added), mask=channel < CHANNELS)


@triton.jit(do_not_specialize=VARY)
def _depthwise_weight_grad(
    grads,
    xs,
    parts,
    arrivals,
    out,
    rows,
    stretch,
    splits,
    CHANNELS,
    HEIGHT,
    WIDTH,
    OUT_HEIGHT,
    OUT_WIDTH,
    STRIDE_Y,
    STRIDE_X,
    PADDING_Y,
    PADDING_X,
    DILATION_Y,
    DILATION_X,
    LAST: tl.constexpr,
    TAPS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    dtype: tl.constexpr = xs.dtype.element_ty
    tap, lines = tl.program_id(0), tl.num_programs(0)  # the line of the kernel, and their number
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(2) * stretch
    last = tl.minimum(first + stretch, rows)
    sums0 = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    sums1 = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    sums2 = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    sums3 = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    sums4 = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    sums5 = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    sums6 = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    known = (channel < CHANNELS)[None, :]
    step = CHANNELS if LAST else 1  # between neighbours of a line
    for start in range(first, last, ROWS):
        row = start + tl.arange(0, ROWS)
        here = row < last
        out_line = row // OUT_WIDTH
        image = out_line // OUT_HEIGHT
        y = (out_line - image * OUT_HEIGHT) * STRIDE_Y - PADDING_Y + tap * DILATION_Y
        x = (row - out_line * OUT_WIDTH) * STRIDE_X - PADDING_X
        if LAST:
            at = row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
            line = ((image * HEIGHT + y) * WIDTH).to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        else:
            plane = (image[:, None] * CHANNELS + channel[None, :]).to(tl.int64)
            at = plane * (OUT_HEIGHT * OUT_WIDTH) + (row - image * (OUT_HEIGHT * OUT_WIDTH))[:, None]
            line = plane * (HEIGHT * WIDTH) + (y * WIDTH)[:, None]
        inside = (here & (y >= 0) & (y < HEIGHT))[:, None] & known
        grad = widened(tl.load(grads + at, mask=inside, other=0.0))
        sums0 += _product(grad, xs, line, x, inside, WIDTH, step)
        if TAPS > 1:
            x += DILATION_X
            sums1 += _product(grad, xs, line, x, inside, WIDTH, step)
        if TAPS > 2:
            x += DILATION_X
            sums2 += _product(grad, xs, line, x, inside, WIDTH, step)
        if TAPS > 3:
            x += DILATION_X
            sums3 += _product(grad, xs, line, x, inside, WIDTH, step)
        if TAPS > 4:
            x += DILATION_X
            sums4 += _product(grad, xs, line, x, inside, WIDTH, step)
        if TAPS > 5:
            x += DILATION_X
            sums5 += _product(grad, xs, line, x, inside, WIDTH, step)
        if TAPS > 6:
            x += DILATION_X
            sums6 += _product(grad, xs, line, x, inside, WIDTH, step)
    place = (tl.program_id(2) * lines + tap) * TAPS
    _leave(parts, place, sums0, channel, CHANNELS)
    if TAPS > 1:
        _leave(parts, place + 1, sums1, channel, CHANNELS)
    if TAPS > 2:
        _leave(parts, place + 2, sums2, channel, CHANNELS)
    if TAPS > 3:
        _leave(parts, place + 3, sums3, channel, CHANNELS)
    if TAPS > 4:
        _leave(parts, place + 4, sums4, channel, CHANNELS)
    if TAPS > 5:
        _leave(parts, place + 5, sums5, channel, CHANNELS)
    if TAPS > 6:
        _leave(parts, place + 6, sums6, channel, CHANNELS)
    # All threads have left theirs before one of them says so; who arrives last sees what the others have left.
    tl.debug_barrier()
    arrival = arrivals + tl.program_id(1) * lines + tap
    if tl.atomic_add(arrival, 1, sem='acq_rel') == splits - 1:
        for i in tl.static_range(TAPS):
            total = tl.full((COLUMNS,), 0.0, tl.float32)
            for start in range(0, splits, SPLITS):
                split = start + tl.arange(0, SPLITS)
                at = ((split * lines + tap) * TAPS + i)[:, None] * CHANNELS + channel[None, :]
                mask = (split < splits)[:, None] & (channel < CHANNELS)[None, :]
                # From where all multiprocessors see the same.
                total += tl.reduce(tl.load(parts + at, mask=mask, other=0.0, cache_modifier='.cg'), 0, added)
            of_tap = (channel * lines + tap) * TAPS + i
            tl.store(out + of_tap, narrowed(rounded(total, dtype), dtype), mask=channel < CHANNELS)
        tl.store(arrival, 0)  # for the next launch


def depthwise_weight_grad(grad: Tensor, x: Tensor, window: Window) -> Tensor:
    """Compute :func:`qsdt_mm.ops.depthwise.depthwise_weight_grad`, for kernels up to seven pixels wide."""
    x = ordered(x)
    shape = Shape.of(x)
    grad = grad.contiguous(memory_format=torch.channels_last if shape.channels_last else torch.contiguous_format)
    lines, taps = window.kernel_size
    height, width = (ROW_BLOCK, CHANNEL_BLOCK) if shape.channels_last else (BLOCK, 1)
    rows = grad.numel() // shape.channels
    tiles, blocks = -(-rows // height), -(-shape.channels // width)
    splits = max(1, min(PROGRAMS // (blocks * lines), tiles // SHORTEST_STRETCH, MOST_SPLITS))
    stretch = -(-tiles // splits) * height
    splits = -(-rows // stretch)
    parts = torch.empty(splits, lines * taps, shape.channels, dtype=torch.float32, device=x.device)
    out = torch.empty(shape.channels, 1, lines, taps, dtype=x.dtype, device=x.device)
    with torch.cuda.device_of(x):
        _depthwise_weight_grad[(lines, blocks, splits)](
            grad,
            x,
            parts,
            arrivals_of(x, blocks * lines),
            out,
            rows,
            stretch,
            splits,
            shape.channels,
            shape.height,
            shape.width,
            *grad.shape[2:],
            *window.stride,
            *window.padding,
            *window.dilation,
            shape.channels_last,
            taps,
            height,
            width,
            SPLIT_BLOCK,
        )
    return out
