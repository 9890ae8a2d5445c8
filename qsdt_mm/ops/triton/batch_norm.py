"""Batch norm of a batch in two launches forward (statistics, values) and two backward (sums, values).

Statistics and sums go by blocks of channels and stretches of rows, a row being a place of an image; no two lanes meet
before the end of a stretch. The last program of a block to arrive merges what all have left, by Chan's rule for means
and variances, in order, so that a run gives the same bits twice. What follows the norm (gain, stochastic depth,
shortcut, border) is part of the pass over values.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from qsdt_mm.ops.batch_norm import Constants, Norms
from qsdt_mm.ops.layout import laid_out

from .arithmetic import added, narrowed, rounded, widened
from .arrivals import arrivals_of

BLOCK = 1024
"""Rows of a tile where a channel's lie together in memory."""
ROW_BLOCK = 32
CHANNEL_BLOCK = 64
"""Rows and channels of a tile where channels are last; of fewer channels, as many more rows."""
TILES = 4
"""Tiles that a program reads at a time, before it sums: so many bytes are under way."""
WARPS = 8
"""Warps of a program that sums: 16 bytes of half precision for each thread of a tile where channels are last."""
MULTIPROCESSORS = 132
"""Of a large GPU, where nothing tells."""
PROGRAMS = 3
PADDED_PROGRAMS = 2
"""Programs for each multiprocessor that sum: as many as it has registers for at a time."""
MOST_SPLITS = 384
SPLIT_BLOCK = 64
"""Stretches of a block of channels at most, and how many of them are merged at a time."""

# For these a kernel would be compiled again and again, and be no faster.
VARY = ('rows', 'stretch', 'splits', 'n')


@cache
def multiprocessors(device: torch.device) -> int:
    """Return the number of multiprocessors of a CUDA device, or else that of a large one."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else MULTIPROCESSORS


class Shape(NamedTuple):
    """Sizes of a dense feature map, and whether channels are last in memory.

    >>> Shape.of(torch.zeros(2, 3, 4, 5)).rows
    40
    """

    images: int
    channels: int
    height: int
    width: int
    channels_last: bool

    @classmethod
    def of(cls, x: Tensor) -> Shape:
        """Read the sizes of a map ``(N, C, H, W)``, which :func:`ordered` has returned."""
        return cls(*x.shape, not x.is_contiguous())

    @property
    def rows(self) -> int:
        """Return the number of places in all images."""
        return self.images * self.height * self.width

    @property
    def tiles(self) -> tuple[int, int]:
        """Return rows and channels of a tile: along the memory."""
        if not self.channels_last:
            return BLOCK, 1
        width = min(CHANNEL_BLOCK, triton.next_power_of_2(self.channels))
        return ROW_BLOCK * CHANNEL_BLOCK // width, width

    @property
    def grid(self) -> tuple[int, int]:
        """Return the numbers of tiles along rows and channels."""
        height, width = self.tiles
        return -(-self.rows // height), -(-self.channels // width)

    def padded(self) -> Shape:
        """Return the sizes with a border of one pixel."""
        return self._replace(height=self.height + 2, width=self.width + 2)

    def splits(self, programs: int) -> tuple[int, int, int]:
        """Return blocks of channels, stretches of rows, and the rows of a stretch, for so many programs at most."""
        height, _ = self.tiles
        tiles, blocks = self.grid
        splits = max(1, min(-(-tiles // TILES), programs // blocks, MOST_SPLITS))
        stretch = -(-tiles // splits) * height
        return blocks, -(-self.rows // stretch), stretch


def ordered(x: Tensor) -> Tensor:
    """Return a feature map that is contiguous, or is with channels last; else a copy that is."""
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x
    return x.contiguous()


@triton.jit
def address(row, channel, CHANNELS, PLACES, LAST: tl.constexpr):
    """Compute where a row and channel lie in memory. Divisions are by row alone, and of 32 bits: they are slow."""
    if LAST:
        at = row.to(tl.int64) * CHANNELS + channel
    else:
        at = (row // PLACES * CHANNELS + channel).to(tl.int64) * PLACES + row % PLACES
    return at


@triton.jit
def inner_row(row, HEIGHT, WIDTH):
    """Compute which row of the map without a border a row of the map with one is, and whether it is one."""
    x = row % (WIDTH + 2) - 1
    line = row // (WIDTH + 2)
    y = line % (HEIGHT + 2) - 1
    inner = (line // (HEIGHT + 2) * HEIGHT + y) * WIDTH + x
    return inner, (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)


@triton.jit
def outer_row(row, HEIGHT, WIDTH):
    """Compute which row of the map with a border a row of the map without is."""
    line = row // WIDTH
    return (line // HEIGHT * (HEIGHT + 2) + line % HEIGHT + 1) * (WIDTH + 2) + row % WIDTH + 1


@triton.jit
def moved(running, to, momentum, channel, CHANNELS):
    """Move running statistics towards those of a batch, and return them."""
    value = tl.load(running + channel, mask=channel < CHANNELS)
    value += momentum * (to - value)
    tl.store(running + channel, value, mask=channel < CHANNELS)
    return value


@triton.jit
def _settle(
    mean,
    square,
    n,
    channel,
    constants,
    w1s,
    b1s,
    running_mean1,
    running_var1,
    w2s,
    b2s,
    running_mean2,
    running_var2,
    gains,
    eps1,
    eps2,
    momentum1,
    momentum2,
    CHANNELS,
    TWO: tl.constexpr,
    GAIN: tl.constexpr,
):
    here = channel < CHANNELS
    var = square / n
    inverse = 1.0 / tl.sqrt_rn(var + eps1)
    unbiased = n / (n - 1.0)
    factor = tl.load(w1s + channel, mask=here)
    shift = tl.load(b1s + channel, mask=here)
    running_mean = moved(running_mean1, mean, momentum1, channel, CHANNELS)
    running_var = moved(running_var1, var * unbiased, momentum1, channel, CHANNELS)
    slope = running_mean / tl.sqrt_rn(running_var + eps1)
    edge = shift - slope * factor
    if TWO:
        seen = factor * factor * (var / (var + eps1))
        moved(running_mean2, shift, momentum2, channel, CHANNELS)
        moved(running_var2, seen * unbiased, momentum2, channel, CHANNELS)
        factor = tl.load(w2s + channel, mask=here) * factor / tl.sqrt_rn(seen + eps2)
        shift = tl.load(b2s + channel, mask=here)
    if GAIN:
        gain = tl.load(gains + channel, mask=here)
        factor *= gain
        shift *= gain
    tl.store(constants + channel, mean, mask=here)
    tl.store(constants + CHANNELS + channel, var, mask=here)
    tl.store(constants + 2 * CHANNELS + channel, factor * inverse, mask=here)
    tl.store(constants + 3 * CHANNELS + channel, shift, mask=here)
    tl.store(constants + 4 * CHANNELS + channel, edge, mask=here)
    tl.store(constants + 5 * CHANNELS + channel, slope, mask=here)
    tl.store(constants + 6 * CHANNELS + channel, factor, mask=here)


@triton.jit
def merged(count, mean, square):
    """Merge means and squared deviations of lanes, each of ``count`` values, by Chan's rule."""
    middle = tl.reduce(mean * count[:, None], 0, added) / tl.reduce(count, 0, added)
    away = mean - middle[None, :]
    return middle, tl.reduce(square + away * away * count[:, None], 0, added)


@triton.jit
def tile(xs, row, last, channel, CHANNELS, PLACES, LAST: tl.constexpr):
    """Load rows before ``last``."""
    here = (row < last)[:, None] & (channel < CHANNELS)[None, :]
    return tl.load(xs + address(row[:, None], channel[None, :], CHANNELS, PLACES, LAST), mask=here, other=0.0)


@triton.jit
def away(x, near, row, last):
    """Subtract, but leave zero for rows that are not there."""
    return tl.where((row < last)[:, None], widened(x) - near, 0.0)


@triton.jit
def is_last(arrival, splits):
    """Say that this program has left its part; return whether all others of its block have."""
    # All threads have left theirs before one of them says so; who arrives last sees what the others have left.
    tl.debug_barrier()
    return tl.atomic_add(arrival, 1, sem='acq_rel') == splits - 1


@triton.jit(do_not_specialize=VARY)
def _measure(
    xs,
    parts,
    arrivals,
    constants,
    w1s,
    b1s,
    running_mean1,
    running_var1,
    w2s,
    b2s,
    running_mean2,
    running_var2,
    gains,
    rows,
    stretch,
    splits,
    n,
    eps1,
    eps2,
    momentum1,
    momentum2,
    CHANNELS,
    PLACES,
    LAST: tl.constexpr,
    TWO: tl.constexpr,
    GAIN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    channel = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    known = channel < CHANNELS
    lane = tl.arange(0, ROWS)
    first = tl.program_id(1) * stretch
    last = tl.minimum(first + stretch, rows)
    # Sums of differences from the lane's first value: of the squares of k values, a k-th at least is left at the end.
    near = widened(tile(xs, first + lane, last, channel, CHANNELS, PLACES, LAST))
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    square = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for start in range(first, last, 4 * ROWS):
        row0 = start + lane
        row1 = row0 + ROWS
        row2 = row1 + ROWS
        row3 = row2 + ROWS
        x0 = tile(xs, row0, last, channel, CHANNELS, PLACES, LAST)
        x1 = tile(xs, row1, last, channel, CHANNELS, PLACES, LAST)
        x2 = tile(xs, row2, last, channel, CHANNELS, PLACES, LAST)
        x3 = tile(xs, row3, last, channel, CHANNELS, PLACES, LAST)
        away0 = away(x0, near, row0, last)
        away1 = away(x1, near, row1, last)
        away2 = away(x2, near, row2, last)
        away3 = away(x3, near, row3, last)
        total += (away0 + away1) + (away2 + away3)
        square += (away0 * away0 + away1 * away1) + (away2 * away2 + away3 * away3)
    count = ((last - first - lane + ROWS - 1) // ROWS).to(tl.float32)
    beside = total / tl.maximum(count, 1.0)[:, None]
    mean, square = merged(count, near + beside, square - total * beside)
    at = tl.program_id(1) * CHANNELS + channel
    tl.store(parts + at, mean, mask=known)
    tl.store(parts + splits * CHANNELS + at, square, mask=known)
    arrival = arrivals + tl.program_id(0)
    if is_last(arrival, splits):
        counts = tl.full((SPLITS,), 0.0, tl.float32)
        means = tl.full((SPLITS, COLUMNS), 0.0, tl.float32)
        squares = tl.full((SPLITS, COLUMNS), 0.0, tl.float32)
        for start in range(0, splits, SPLITS):
            split = start + tl.arange(0, SPLITS)
            part = parts + split[:, None] * CHANNELS + channel[None, :]
            mask = (split < splits)[:, None] & known[None, :]
            # From where all multiprocessors see the same.
            middle = tl.load(part, mask=mask, other=0.0, cache_modifier='.cg')
            more_square = tl.load(part + splits * CHANNELS, mask=mask, other=0.0, cache_modifier='.cg')
            more = tl.where(split < splits, tl.minimum(rows - split * stretch, stretch), 0).to(tl.float32)
            share = more / tl.maximum(counts + more, 1.0)
            middle -= means
            squares += more_square + middle * middle * (counts * share)[:, None]
            means += middle * share[:, None]
            counts += more
        mean, square = merged(counts, means, squares)
        _settle(
            mean,
            square,
            n,
            channel,
            constants,
            w1s,
            b1s,
            running_mean1,
            running_var1,
            w2s,
            b2s,
            running_mean2,
            running_var2,
            gains,
            eps1,
            eps2,
            momentum1,
            momentum2,
            CHANNELS,
            TWO,
            GAIN,
        )
        tl.store(arrival, 0)  # for the next launch


@triton.jit
def _normalise(
    xs,
    shortcuts,
    keeps,
    constants,
    out,
    rows,
    CHANNELS,
    HEIGHT,
    WIDTH,
    LAST: tl.constexpr,
    PADDED: tl.constexpr,
    KEEP: tl.constexpr,
    SHORTCUT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    dtype: tl.constexpr = xs.dtype.element_ty
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here = (row < rows)[:, None] & (channel < CHANNELS)[None, :]
    if PADDED:
        source, inside = inner_row(row, HEIGHT, WIDTH)
        inside = inside[:, None] & here
        at = address(row[:, None], channel[None, :], CHANNELS, (HEIGHT + 2) * (WIDTH + 2), LAST)
        source = address(source[:, None], channel[None, :], CHANNELS, HEIGHT * WIDTH, LAST)
    else:
        inside = here
        at = address(row[:, None], channel[None, :], CHANNELS, HEIGHT * WIDTH, LAST)
        source = at
    x = widened(tl.load(xs + source, mask=inside, other=0.0))
    mean = tl.load(constants + channel, mask=channel < CHANNELS)
    slope = tl.load(constants + 2 * CHANNELS + channel, mask=channel < CHANNELS)
    shift = tl.load(constants + 3 * CHANNELS + channel, mask=channel < CHANNELS)
    y = (x - mean[None, :]) * slope[None, :] + shift[None, :]
    if PADDED:
        edge = tl.load(constants + 4 * CHANNELS + channel, mask=channel < CHANNELS)
        y = tl.where(inside, y, edge[None, :])
    if KEEP:
        y *= widened(tl.load(keeps + row // (HEIGHT * WIDTH), mask=row < rows))[:, None]
    if SHORTCUT:
        y += widened(tl.load(shortcuts + at, mask=here))
    tl.store(out + at, narrowed(rounded(y, dtype), dtype), mask=here)


@triton.jit
def _settle_back(
    of_shift,
    of_factor,
    of_edge,
    n,
    channel,
    constants,
    w1s,
    b1s,
    w2s,
    b2s,
    gains,
    results,
    eps1,
    eps2,
    CHANNELS,
    TWO: tl.constexpr,
    GAIN: tl.constexpr,
):
    known = channel < CHANNELS
    var = tl.load(constants + CHANNELS + channel, mask=known, other=1.0)
    slope = tl.load(constants + 2 * CHANNELS + channel, mask=known, other=0.0)  # gain * f / sqrt(v + e1)
    inverse = 1.0 / tl.sqrt_rn(var + eps1)
    of_factor *= inverse
    w1 = tl.load(w1s + channel, mask=known, other=0.0)
    # Of x: slope * (g - sum(g) / n - xhat * sum(g xhat) / n), and what the second norm sees of v.
    of_mean = -slope * of_shift / n
    of_centred = -slope * inverse * of_factor / n
    of_gain = of_factor
    shift = tl.load(b1s + channel, mask=known, other=0.0)
    share = var / (var + eps1)
    unscaled = w1
    root = inverse
    w2 = w1
    if TWO:
        root = 1.0 / tl.sqrt_rn(w1 * w1 * share + eps2)
        w2 = tl.load(w2s + channel, mask=known, other=0.0)
        shift = tl.load(b2s + channel, mask=known, other=0.0)
        unscaled = w2 * w1 * root
    if GAIN:
        gain = tl.load(gains + channel, mask=known, other=0.0)
        of_gain = of_factor * unscaled + of_shift * shift
        of_factor *= gain
        of_shift *= gain
    of_root = of_factor * w2 * w1 * root * root * root
    if TWO:
        of_centred -= of_root * w1 * w1 * eps1 * inverse * inverse * inverse * inverse / n
        tl.store(results + channel, of_factor * w2 * root - of_root * w1 * share, mask=known)
        tl.store(results + CHANNELS + channel, tl.full(of_shift.shape, 0.0, tl.float32), mask=known)
    else:
        running = tl.load(constants + 5 * CHANNELS + channel, mask=known)
        tl.store(results + channel, of_factor - of_edge * running, mask=known)
        tl.store(results + CHANNELS + channel, of_shift + of_edge, mask=known)
    tl.store(results + 2 * CHANNELS + channel, of_factor * w1 * root, mask=known)
    tl.store(results + 3 * CHANNELS + channel, of_shift, mask=known)
    tl.store(results + 4 * CHANNELS + channel, of_gain, mask=known)
    tl.store(results + 5 * CHANNELS + channel, of_mean, mask=known)
    tl.store(results + 6 * CHANNELS + channel, of_centred, mask=known)


@triton.jit
def pair(
    grads,
    xs,
    row,
    last,
    channel,
    CHANNELS,
    HEIGHT,
    WIDTH,
    LAST: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Load the gradients of rows before ``last``, and what the norm has read there, if that is not the border."""
    grad = tile(grads, row, last, channel, CHANNELS, (HEIGHT + 2 * PADDED) * (WIDTH + 2 * PADDED), LAST)
    inside = row < last
    if PADDED:
        row, inner = inner_row(row, HEIGHT, WIDTH)
        inside = inside & inner
    at = address(row[:, None], channel[None, :], CHANNELS, HEIGHT * WIDTH, LAST)
    return grad, tl.load(xs + at, mask=inside[:, None] & (channel < CHANNELS)[None, :], other=0.0), inside


@triton.jit
def kept(grad, keeps, row, last, PLACES, KEEP: tl.constexpr):
    """Widen gradients; of images that are kept, multiply them."""
    grad = widened(grad)
    if KEEP:
        grad *= widened(tl.load(keeps + row // PLACES, mask=row < last, other=0.0))[:, None]
    return grad


@triton.jit
def _leave(parts, sums, channel, CHANNELS):
    tl.store(parts + channel, tl.reduce(sums, 0, added), mask=channel < CHANNELS)


@triton.jit
def _total(parts, splits, channel, CHANNELS, SPLITS: tl.constexpr, COLUMNS: tl.constexpr):
    sums = tl.full((SPLITS, COLUMNS), 0.0, tl.float32)
    for start in range(0, splits, SPLITS):
        split = start + tl.arange(0, SPLITS)
        mask = (split < splits)[:, None] & (channel < CHANNELS)[None, :]
        # From where all multiprocessors see the same.
        at = split[:, None] * CHANNELS + channel[None, :]
        sums += tl.load(parts + at, mask=mask, other=0.0, cache_modifier='.cg')
    return tl.reduce(sums, 0, added)


@triton.jit(do_not_specialize=VARY)
def _sum(
    grads,
    xs,
    keeps,
    constants,
    parts,
    arrivals,
    w1s,
    b1s,
    w2s,
    b2s,
    gains,
    results,
    rows,
    stretch,
    splits,
    n,
    eps1,
    eps2,
    CHANNELS,
    HEIGHT,
    WIDTH,
    LAST: tl.constexpr,
    PADDED: tl.constexpr,
    KEEP: tl.constexpr,
    TWO: tl.constexpr,
    GAIN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    channel = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    lane = tl.arange(0, ROWS)
    first = tl.program_id(1) * stretch
    last = tl.minimum(first + stretch, rows)
    places = HEIGHT * WIDTH
    mean = tl.load(constants + channel, mask=channel < CHANNELS, other=0.0)[None, :]
    of_shift = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    of_factor = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    of_edge = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for start in range(first, last, 4 * ROWS):
        row0 = start + lane
        row1 = row0 + ROWS
        row2 = row1 + ROWS
        row3 = row2 + ROWS
        grad0, x0, inside0 = pair(grads, xs, row0, last, channel, CHANNELS, HEIGHT, WIDTH, LAST, PADDED)
        grad1, x1, inside1 = pair(grads, xs, row1, last, channel, CHANNELS, HEIGHT, WIDTH, LAST, PADDED)
        grad2, x2, inside2 = pair(grads, xs, row2, last, channel, CHANNELS, HEIGHT, WIDTH, LAST, PADDED)
        grad3, x3, inside3 = pair(grads, xs, row3, last, channel, CHANNELS, HEIGHT, WIDTH, LAST, PADDED)
        g0 = kept(grad0, keeps, row0, last, places, KEEP)
        g1 = kept(grad1, keeps, row1, last, places, KEEP)
        g2 = kept(grad2, keeps, row2, last, places, KEEP)
        g3 = kept(grad3, keeps, row3, last, places, KEEP)
        if PADDED:
            inner0 = tl.where(inside0[:, None], g0, 0.0)
            inner1 = tl.where(inside1[:, None], g1, 0.0)
            inner2 = tl.where(inside2[:, None], g2, 0.0)
            inner3 = tl.where(inside3[:, None], g3, 0.0)
            of_edge += ((g0 - inner0) + (g1 - inner1)) + ((g2 - inner2) + (g3 - inner3))
        else:
            inner0 = g0
            inner1 = g1
            inner2 = g2
            inner3 = g3
        of_shift += (inner0 + inner1) + (inner2 + inner3)
        of_factor += inner0 * (widened(x0) - mean) + inner1 * (widened(x1) - mean)
        of_factor += inner2 * (widened(x2) - mean) + inner3 * (widened(x3) - mean)
    part = parts + tl.program_id(1) * CHANNELS
    _leave(part, of_shift, channel, CHANNELS)
    _leave(part + splits * CHANNELS, of_factor, channel, CHANNELS)
    if PADDED:
        _leave(part + 2 * splits * CHANNELS, of_edge, channel, CHANNELS)
    arrival = arrivals + tl.program_id(0)
    if is_last(arrival, splits):
        shift = _total(parts, splits, channel, CHANNELS, SPLITS, COLUMNS)
        factor = _total(parts + splits * CHANNELS, splits, channel, CHANNELS, SPLITS, COLUMNS)
        edge = tl.full((COLUMNS,), 0.0, tl.float32)
        if PADDED:
            edge = _total(parts + 2 * splits * CHANNELS, splits, channel, CHANNELS, SPLITS, COLUMNS)
        _settle_back(
            shift,
            factor,
            edge,
            n,
            channel,
            constants,
            w1s,
            b1s,
            w2s,
            b2s,
            gains,
            results,
            eps1,
            eps2,
            CHANNELS,
            TWO,
            GAIN,
        )
        tl.store(arrival, 0)  # for the next launch


@triton.jit
def _pass_back(
    grads,
    xs,
    keeps,
    constants,
    results,
    out,
    rows,
    CHANNELS,
    HEIGHT,
    WIDTH,
    LAST: tl.constexpr,
    PADDED: tl.constexpr,
    KEEP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    dtype: tl.constexpr = xs.dtype.element_ty
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    known = channel < CHANNELS
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = (row < rows)[:, None] & known[None, :]
    at = address(row[:, None], channel[None, :], CHANNELS, HEIGHT * WIDTH, LAST)
    source = at
    if PADDED:
        outer = outer_row(row, HEIGHT, WIDTH)
        source = address(outer[:, None], channel[None, :], CHANNELS, (HEIGHT + 2) * (WIDTH + 2), LAST)
    grad = tl.load(grads + source, mask=here)
    x = tl.load(xs + at, mask=here)
    mean = tl.load(constants + channel, mask=known)
    slope = tl.load(constants + 2 * CHANNELS + channel, mask=known)
    of_mean = tl.load(results + 5 * CHANNELS + channel, mask=known)
    of_centred = tl.load(results + 6 * CHANNELS + channel, mask=known)
    grad = kept(grad, keeps, row, rows, HEIGHT * WIDTH, KEEP)
    of_x = slope[None, :] * grad + of_mean[None, :] + of_centred[None, :] * (widened(x) - mean[None, :])
    tl.store(out + at, narrowed(rounded(of_x, dtype), dtype), mask=here)


def batch_norm(
    x: Tensor, norms: Norms, shortcut: Tensor | None, keep: Tensor | None, padded: bool
) -> tuple[Tensor, Constants]:
    """Compute :func:`qsdt_mm.ops.batch_norm.batch_norm`."""
    x = ordered(x)
    shape = Shape.of(x)
    constants = x.new_empty(7, shape.channels, dtype=torch.float32)
    blocks, splits, stretch = shape.splits(PROGRAMS * multiprocessors(x.device))
    first, second = norms.first, norms.second or norms.first
    with torch.cuda.device_of(x):
        _measure[(blocks, splits)](
            x,
            constants.new_empty(2, splits, shape.channels),
            arrivals_of(x, blocks),
            constants,
            first.weight,
            first.bias,
            first.running_mean,
            first.running_var,
            second.weight,
            second.bias,
            second.running_mean,
            second.running_var,
            first.weight if norms.gain is None else norms.gain,
            shape.rows,
            stretch,
            splits,
            float(shape.rows),
            first.eps,
            second.eps,
            first.momentum,
            second.momentum,
            shape.channels,
            shape.height * shape.width,
            shape.channels_last,
            norms.second is not None,
            norms.gain is not None,
            *shape.tiles,
            SPLIT_BLOCK,
            num_warps=WARPS,
        )
    constants = Constants(constants, first.eps)
    return batch_norm_values(x, constants, shortcut, keep, padded), constants


def batch_norm_values(
    x: Tensor, constants: Constants, shortcut: Tensor | None = None, keep: Tensor | None = None, padded: bool = False
) -> Tensor:
    """Compute the norm's output from constants that are known, with what follows."""
    x = ordered(x)
    shape = Shape.of(x)
    out = torch.empty_like(x)
    if padded:
        order = torch.channels_last if shape.channels_last else torch.contiguous_format
        size = shape.images, shape.channels, shape.height + 2, shape.width + 2
        out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=order)
    outer = shape.padded() if padded else shape
    with torch.cuda.device_of(x):
        _normalise[outer.grid](
            x,
            x if shortcut is None else laid_out(shortcut, out),
            x if keep is None else keep.to(x.dtype),
            constants.values,
            out,
            outer.rows,
            shape.channels,
            shape.height,
            shape.width,
            shape.channels_last,
            padded,
            keep is not None,
            shortcut is not None,
            *shape.tiles,
        )
    return out


def batch_norm_backward(
    grad: Tensor, x: Tensor, constants: Constants, norms: Norms, keep: Tensor | None, padded: bool
) -> tuple[Tensor, Tensor]:
    """Compute :func:`qsdt_mm.ops.batch_norm.batch_norm_backward`."""
    x = ordered(x)
    shape = Shape.of(x)
    order = torch.channels_last if shape.channels_last else torch.contiguous_format
    grad = grad.contiguous(memory_format=order)
    outer = shape.padded() if padded else shape
    blocks, splits, stretch = outer.splits((PADDED_PROGRAMS if padded else PROGRAMS) * multiprocessors(x.device))
    results = constants.values.new_empty(7, shape.channels)  # the last two are what the values need
    of_x = torch.empty_like(x)
    keeps = x if keep is None else keep.to(x.dtype)
    first, second = norms.first, norms.second or norms.first
    sizes = shape.channels, shape.height, shape.width, shape.channels_last, padded, keep is not None
    with torch.cuda.device_of(x):
        _sum[(blocks, splits)](
            grad,
            x,
            keeps,
            constants.values,
            results.new_empty(2 + padded, splits, shape.channels),
            arrivals_of(x, blocks),
            first.weight,
            first.bias,
            second.weight,
            second.bias,
            first.weight if norms.gain is None else norms.gain,
            results,
            outer.rows,
            stretch,
            splits,
            float(shape.rows),
            first.eps,
            second.eps,
            *sizes,
            norms.second is not None,
            norms.gain is not None,
            *shape.tiles,
            SPLIT_BLOCK,
            num_warps=WARPS,
        )
        _pass_back[shape.grid](grad, x, keeps, constants.values, results, of_x, shape.rows, *sizes, *shape.tiles)
    return of_x, results
