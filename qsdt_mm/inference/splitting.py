"""Sums of integer weights and real values that have the same bits on every device, in whatever order they are taken.

Floating-point sums depend on their order, which differs between devices, and a GPU may round float32 to TF32 first. So
each value is split into parts with few digits, ``x = x_1 + x_2 + rest``, that lie on a grid common to their sample:
sums of integers times such parts are exact. What is added to what is then the same everywhere, and the rest that is
dropped is less than what a sum in the values' own type loses.

Source: error-free splitting of vectors, Rump, Ogita and Oishi, Accurate floating-point summation part I (SIAM J. Sci.
Comput. 31, 2008), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from qsdt_mm.compat.tracing import is_counting, is_recording

EXACT = {torch.float32: 2**24, torch.float64: 2**53}
"""Up to these magnitudes every integer is a number of the type."""

KEPT = {torch.float32: 26, torch.float64: 55}
"""Binary digits that all parts together keep at least, counted from the largest value of a sample."""
SMALLEST = -60
"""Samples below two to this lose digits, so that no part is smaller than a type's normal numbers."""


def digits_of_a_part(dtype: torch.dtype, reach: int) -> int:
    """Return the most binary digits of a part with which sums of it are exact; 0 or less if none.

    Args:
        dtype: of the parts.
        reach: the largest magnitude of a sum over values of at most 1.
    """
    return min((EXACT[dtype] // max(reach, 1)).bit_length() - 1, EXACT[dtype].bit_length() - 3)


def magnitude(values: Tensor) -> Tensor:
    """Return the smallest power of two above all magnitudes of each sample, ``(N, 1, ...)`` in float64."""
    axes = tuple(range(1, values.dim()))
    largest = torch.maximum(values.amax(axes, keepdim=True), -values.amin(axes, keepdim=True)).double()
    largest = largest.clamp_min(2.0 ** (SMALLEST - 1))
    return largest / torch.frexp(largest).mantissa  # a power of two: exact anywhere


def parts(values: Tensor, digits: int) -> Iterator[Tensor]:
    """Yield parts of so many binary digits each, the largest first.

    ``x_1 = (s + x) - s``, with s so large that the sum keeps just these digits; then the same of ``x - x_1``.
    """
    mantissa = EXACT[values.dtype].bit_length() - 2
    bound, number = magnitude(values), math.ceil((KEPT[values.dtype] + 1) / (digits + 1))
    for i in range(number):
        # Between one and two times a power of two on both sides of s, so that the grid is the same for either sign.
        s = (1.5 * 2.0 ** (mantissa - digits) * bound).to(values.dtype)
        part = (values + s).sub_(s)
        yield part
        if i < number - 1:
            values, bound = values - part, bound * 2.0 ** -(digits + 1)


def split_sums(linear: Callable[[Tensor], Tensor], values: Tensor, reach: int) -> Tensor:
    """Compute ``W x``, float32 or float64, the same on every device.

    Args:
        linear: ``W``, integers.
        values: ``(N, ...)``.
        reach: the largest magnitude of ``W x`` for values of at most 1.
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    if digits_of_a_part(dtype, reach) < 4:  # would take many parts
        dtype = torch.float64
    pieces = parts(values.to(dtype), digits_of_a_part(dtype, reach))
    wide = on_device(dtype, values) == torch.float64
    if dtype == torch.float32 and (wide or is_recording() or is_counting()):
        # float64 holds what all parts make together, and its sums: the same bits in one pass.
        return linear(sum(part.double() for part in pieces)).to(dtype)
    total = None
    for part in pieces:
        sums = linear(part).double()
        total = sums if total is None else total.add_(sums)
    return total.to(dtype)


def on_device(accumulator_dtype: torch.dtype, values: Tensor) -> torch.dtype:
    """Return the type to sum in where ``values`` are: on a GPU TF32, Winograd or FFT may round float32, not float64."""
    return torch.float64 if values.is_cuda else accumulator_dtype


class SplitAveragePool(nn.Module):
    """The mean over all positions of each channel, ``(N, C, ...) -> (N, C, 1, ...)``, the same on every device.

    >>> SplitAveragePool()(torch.arange(8.0).view(1, 2, 2, 2)).flatten().tolist()
    [1.5, 5.5]
    """

    def forward(self, values: Tensor) -> Tensor:
        """Pool."""
        positions, count = tuple(range(2, values.dim())), math.prod(values.shape[2:])
        sums = split_sums(lambda part: part.sum(positions, keepdim=True), values, int(count))
        # A recorded size is a tensor; either way the inverse is rounded once, to the type of the sums. Made on the
        # device: a copy to it would wait.
        inverse = torch.ones((), dtype=torch.float64, device=sums.device) / count
        return (sums * inverse.to(sums.dtype)).to(values.dtype)
