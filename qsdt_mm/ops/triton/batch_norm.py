"""Batch norm of a batch in three launches forward (statistics, constants of channels, values) and two backward.

Sums go by blocks of channels and stretches of rows, a row being a place of an image; their parts are merged by Chan's
rule for means and variances, in order, so that a run gives the same bits twice. What follows the norm (gain, stochastic
depth, shortcut, border) is part of the pass over values.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from qsdt_mm.ops.batch_norm import Constants, Norms
from qsdt_mm.ops.layout import laid_out

from .arithmetic import added, narrowed, rounded, widened

BLOCK = 1024
"""Rows of a tile where a channel's lie together in memory."""
ROW_BLOCK = 32
CHANNEL_BLOCK = 64
"""Rows and channels of a tile where channels are last."""
PROGRAMS = 1024
"""Programs that a pass over rows is split into, about: enough for every multiprocessor."""


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
        """Return rows and channels that a program sums at a time: along the memory."""
        return (ROW_BLOCK, CHANNEL_BLOCK) if self.channels_last else (BLOCK, 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Return the numbers of tiles along rows and channels."""
        return self.grid_of(*self.tiles)

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Return the numbers of tiles of another size."""
        return -(-self.rows // height), -(-self.channels // width)

    def padded(self) -> Shape:
        """Return the sizes with a border of one pixel."""
        return self._replace(height=self.height + 2, width=self.width + 2)

    @property
    def splits(self) -> tuple[int, int, int]:
        """Return blocks of channels, stretches of rows, and the rows of a stretch."""
        height, _ = self.tiles
        tiles, blocks = self.grid
        stretch = -(-tiles // max(1, min(tiles, PROGRAMS // blocks, 32))) * height
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
def _measure(
    xs, means, squares, rows, stretch, CHANNELS, PLACES, LAST: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr
):
    channel = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    first = tl.program_id(1) * stretch
    last = tl.minimum(first + stretch, rows)
    count = tl.full((WIDTH,), 0.0, tl.float32)
    mean = tl.full((WIDTH,), 0.0, tl.float32)
    square = tl.full((WIDTH,), 0.0, tl.float32)
    for start in range(first, last, ROWS):
        row = start + tl.arange(0, ROWS)
        here = (row < last)[:, None] & (channel < CHANNELS)[None, :]
        x = widened(tl.load(xs + address(row[:, None], channel[None, :], CHANNELS, PLACES, LAST), mask=here, other=0.0))
        more = tl.minimum(last - start, ROWS).to(tl.float32)
        middle = tl.reduce(x, 0, added) / more
        away = tl.where(here, x - middle[None, :], 0.0)
        share = more / (count + more)
        square += tl.reduce(away * away, 0, added) + (middle - mean) * (middle - mean) * count * share
        mean += (middle - mean) * share
        count += more
    at = tl.program_id(1) * CHANNELS + channel
    tl.store(means + at, mean, mask=channel < CHANNELS)
    tl.store(squares + at, square, mask=channel < CHANNELS)


@triton.jit
def moved(running, to, momentum, channel, CHANNELS):
    """Move running statistics towards those of a batch, and return them."""
    value = tl.load(running + channel, mask=channel < CHANNELS)
    value += momentum * (to - value)
    tl.store(running + channel, value, mask=channel < CHANNELS)
    return value


@triton.jit
def _settle(
    means,
    squares,
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
    eps1,
    eps2,
    momentum1,
    momentum2,
    CHANNELS,
    TWO: tl.constexpr,
    GAIN: tl.constexpr,
    WIDTH: tl.constexpr,
):
    channel = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    here = channel < CHANNELS
    count = 0.0
    mean = tl.full((WIDTH,), 0.0, tl.float32)
    square = tl.full((WIDTH,), 0.0, tl.float32)
    for split in range(splits):
        more = tl.minimum(rows - split * stretch, stretch).to(tl.float32)
        middle = tl.load(means + split * CHANNELS + channel, mask=here, other=0.0)
        share = more / (count + more)
        square += tl.load(squares + split * CHANNELS + channel, mask=here, other=0.0)
        square += (middle - mean) * (middle - mean) * count * share
        mean += (middle - mean) * share
        count += more
    var = square / count
    inverse = 1.0 / tl.sqrt_rn(var + eps1)
    unbiased = count / (count - 1.0)
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
def _sum(
    grads,
    xs,
    keeps,
    constants,
    sums,
    products,
    edges,
    rows,
    stretch,
    eps,
    CHANNELS,
    HEIGHT,
    WIDTH,
    LAST: tl.constexpr,
    PADDED: tl.constexpr,
    KEEP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    channel = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(1) * stretch
    last = tl.minimum(first + stretch, rows)
    mean = tl.load(constants + channel, mask=channel < CHANNELS, other=0.0)
    inverse = 1.0 / tl.sqrt_rn(tl.load(constants + CHANNELS + channel, mask=channel < CHANNELS, other=1.0) + eps)
    of_shift = tl.full((COLUMNS,), 0.0, tl.float32)
    of_factor = tl.full((COLUMNS,), 0.0, tl.float32)
    of_edge = tl.full((COLUMNS,), 0.0, tl.float32)
    for start in range(first, last, ROWS):
        row = start + tl.arange(0, ROWS)
        here = (row < last)[:, None] & (channel < CHANNELS)[None, :]
        if PADDED:
            source, inside = inner_row(row, HEIGHT, WIDTH)
            inside = inside[:, None] & here
            at = address(row[:, None], channel[None, :], CHANNELS, (HEIGHT + 2) * (WIDTH + 2), LAST)
            source = address(source[:, None], channel[None, :], CHANNELS, HEIGHT * WIDTH, LAST)
        else:
            inside = here
            at = address(row[:, None], channel[None, :], CHANNELS, HEIGHT * WIDTH, LAST)
            source = at
        grad = widened(tl.load(grads + at, mask=here, other=0.0))
        x = widened(tl.load(xs + source, mask=inside, other=0.0))
        if KEEP:
            grad *= widened(tl.load(keeps + row // (HEIGHT * WIDTH), mask=row < last, other=0.0))[:, None]
        inner = tl.where(inside, grad, 0.0)
        of_shift += tl.reduce(inner, 0, added)
        of_factor += tl.reduce(inner * (x - mean[None, :]), 0, added)
        of_edge += tl.reduce(tl.where(inside, 0.0, grad), 0, added)
    at = tl.program_id(1) * CHANNELS + channel
    tl.store(sums + at, of_shift, mask=channel < CHANNELS)
    tl.store(products + at, of_factor * inverse, mask=channel < CHANNELS)
    if PADDED:
        tl.store(edges + at, of_edge, mask=channel < CHANNELS)


@triton.jit
def _pass_back(
    grads,
    xs,
    keeps,
    constants,
    sums,
    products,
    edges,
    w1s,
    b1s,
    w2s,
    b2s,
    gains,
    results,
    out,
    rows,
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
):
    dtype: tl.constexpr = xs.dtype.element_ty
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    known = channel < CHANNELS
    # Every program adds up the parts of its channels, which lie in the cache: cheaper than one more launch.
    of_shift = tl.full((COLUMNS,), 0.0, tl.float32)
    of_factor = tl.full((COLUMNS,), 0.0, tl.float32)
    of_edge = tl.full((COLUMNS,), 0.0, tl.float32)
    for split in range(splits):
        part = split * CHANNELS + channel
        of_shift += tl.load(sums + part, mask=known, other=0.0)
        of_factor += tl.load(products + part, mask=known, other=0.0)
        if PADDED:
            of_edge += tl.load(edges + part, mask=known, other=0.0)
    mean = tl.load(constants + channel, mask=known, other=0.0)
    var = tl.load(constants + CHANNELS + channel, mask=known, other=1.0)
    slope = tl.load(constants + 2 * CHANNELS + channel, mask=known, other=0.0)  # gain * f / sqrt(v + e1)
    inverse = 1.0 / tl.sqrt_rn(var + eps1)
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
    if tl.program_id(0) == 0:
        if TWO:
            tl.store(results + channel, of_factor * w2 * root - of_root * w1 * share, mask=known)
            tl.store(results + CHANNELS + channel, tl.full((COLUMNS,), 0.0, tl.float32), mask=known)
        else:
            running = tl.load(constants + 5 * CHANNELS + channel, mask=known)
            tl.store(results + channel, of_factor - of_edge * running, mask=known)
            tl.store(results + CHANNELS + channel, of_shift + of_edge, mask=known)
        tl.store(results + 2 * CHANNELS + channel, of_factor * w1 * root, mask=known)
        tl.store(results + 3 * CHANNELS + channel, of_shift, mask=known)
        tl.store(results + 4 * CHANNELS + channel, of_gain, mask=known)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = (row < rows)[:, None] & known[None, :]
    at = address(row[:, None], channel[None, :], CHANNELS, HEIGHT * WIDTH, LAST)
    source = at
    if PADDED:
        outer = outer_row(row, HEIGHT, WIDTH)
        source = address(outer[:, None], channel[None, :], CHANNELS, (HEIGHT + 2) * (WIDTH + 2), LAST)
    grad = widened(tl.load(grads + source, mask=here))
    if KEEP:
        grad *= widened(tl.load(keeps + row // (HEIGHT * WIDTH), mask=row < rows))[:, None]
    x = widened(tl.load(xs + at, mask=here)) - mean[None, :]
    of_x = slope[None, :] * grad + of_mean[None, :] + of_centred[None, :] * x
    tl.store(out + at, narrowed(rounded(of_x, dtype), dtype), mask=here)


def batch_norm(
    x: Tensor, norms: Norms, shortcut: Tensor | None, keep: Tensor | None, padded: bool
) -> tuple[Tensor, Constants]:
    """Compute :func:`qsdt_mm.ops.batch_norm.batch_norm`."""
    x = ordered(x)
    shape = Shape.of(x)
    constants = x.new_empty(7, shape.channels, dtype=torch.float32)
    blocks, splits, stretch = shape.splits
    parts = constants.new_empty(2, splits, shape.channels)
    rows, width = shape.tiles
    places = shape.height * shape.width
    first, second = norms.first, norms.second or norms.first
    with torch.cuda.device_of(x):
        _measure[(blocks, splits)](
            x, parts[0], parts[1], shape.rows, stretch, shape.channels, places, shape.channels_last, rows, width
        )
        _settle[(-(-shape.channels // CHANNEL_BLOCK),)](
            parts[0],
            parts[1],
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
            first.eps,
            second.eps,
            first.momentum,
            second.momentum,
            shape.channels,
            norms.second is not None,
            norms.gain is not None,
            CHANNEL_BLOCK,
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
    blocks, splits, stretch = outer.splits
    parts = constants.values.new_empty(3, splits, shape.channels)
    results = constants.values.new_empty(5, shape.channels)
    of_x = torch.empty_like(x)
    rows, width = shape.tiles
    height = rows * (4 if shape.channels_last else 1)  # long tiles, for each adds up the parts of its channels
    keeps = x if keep is None else keep.to(x.dtype)
    first, second = norms.first, norms.second or norms.first
    sizes = shape.channels, shape.height, shape.width, shape.channels_last, padded, keep is not None
    with torch.cuda.device_of(x):
        _sum[(blocks, splits)](
            grad,
            x,
            keeps,
            constants.values,
            parts[0],
            parts[1],
            parts[2],
            outer.rows,
            stretch,
            first.eps,
            *sizes,
            rows,
            width,
        )
        _pass_back[shape.grid_of(height, width)](
            grad,
            x,
            keeps,
            constants.values,
            parts[0],
            parts[1],
            parts[2],
            first.weight,
            first.bias,
            second.weight,
            second.bias,
            first.weight if norms.gain is None else norms.gain,
            results,
            of_x,
            shape.rows,
            splits,
            float(shape.rows),
            first.eps,
            second.eps,
            *sizes,
            norms.second is not None,
            norms.gain is not None,
            height,
            width,
        )
    return of_x, results
