"""The whole numbers of a layer: weights, biases and multipliers by which a sum becomes a byte or a count.

``y = clip(rne((S + b) * m))``, ``m = M * 2^-e``, for each output channel. Three rules make every runtime give the same
bits, whether it computes ``(S + b) * m`` or ``S * m + b * m``, fused or not, in whatever order:

1. ``M * (|b| + span / m) < 2^24``: every result that is not clipped is exact in float32; span is that of the results.
2. ``M`` is odd and more than twice the results: ``(S + b) * m`` is never half way between two of them. Or M is odd, all
   S are even and b is odd: so it is where S is so large that M has few bits.
3. ``|S| + |b| <= 2^24`` at worst: float32 sums are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qsdt_mm.errors import InputError
from qsdt_mm.inference import FoldedLayer

from .steps import EXACT

MARGIN = 1.25
"""A byte holds so many times the largest increment that the calibration images caused."""
SHARE = 8
"""A usual result is so many times smaller than the span of results."""
FINER = 4
"""Low-bit weights may be taken times two to this, so that biases are finer."""
MOST_BITS = 8
ZERO = 128
"""The byte that stands for zero."""
LARGEST_BYTE = 127
WHOLE_WORTH = 2.0**-8
"""Worth of a whole number of 16 bits, in thresholds."""


@dataclass(frozen=True)
class Numbers:
    """A layer in whole numbers, see :class:`~qsdt_mm.deploy.steps.Convolve`.

    Args:
        weight, multiplier, bias, scale, bits: as there.
        worth: of one unit of the result, ``(C_out,)`` float64, in thresholds.
        lowered: where results are worth half a unit more, ``(C_out,)`` of bool.

    >>> from torch import nn
    >>> from qsdt_mm.inference import FoldedLayer
    >>> from qsdt_mm.models.quantization import QuantizedWeight
    >>> weight = QuantizedWeight(torch.tensor([[[[3]]]], dtype=torch.int8), torch.tensor([0.5]).double(), bits=4)
    >>> gain, offset = torch.tensor([0.5]).double(), torch.tensor([0.25]).double()
    >>> layer = FoldedLayer(nn.Conv2d(1, 1, 1), weight, gain, offset)
    >>> numbers = in_whole_numbers(
    ...     layer, gain, offset, torch.ones(1).double(), to='count', high=4, source='count', most=4, name='layer')
    >>> sums = 2 * 3 * numbers.multiplier + numbers.bias  # of two spikes
    >>> round((sums * numbers.scale).item(), 3)
    3.25
    """

    weight: Tensor
    multiplier: Tensor
    bias: Tensor
    scale: Tensor
    bits: int
    worth: Tensor
    lowered: Tensor


def fitting_worth(real: Tensor, largest: int, *, mixed: bool = False, finest: float = 2.0**-60) -> Tensor:
    """Return what one unit is worth in each channel, so that results ``(N, C, ...)`` of calibration images fit.

    A power of two, so that sums of such values stay on a grid; or one number for all channels, of any digits, where
    the next layer mixes them.

    Args:
        real: the results.
        largest: whole number that they are to fit.
        mixed: whether the next layer mixes the channels.
        finest: the smallest worth.
    """
    peak = real.abs().transpose(0, 1).flatten(1).amax(1).double() * MARGIN / largest
    if mixed:
        return peak.amax().clamp_min(finest).expand_as(peak)
    return 2.0 ** torch.ceil(torch.log2(peak.clamp_min(finest)))


def in_whole_numbers(
    layer: FoldedLayer,
    gain: Tensor,
    offset: Tensor,
    worth: Tensor,
    *,
    to: str,
    high: int,
    source: str,
    most: int,
    name: str,
    lowered: Tensor | None = None,
    step: float | None = None,
) -> Numbers:
    """Return a layer ``gain * W x + offset`` of whole x in whole numbers.

    Args:
        layer: for W, which may be real: then it is rounded here, to steps that suit the multipliers.
        gain, offset: float64 ``(C_out,)``, in thresholds.
        worth: of one unit of the result, ``(C_out,)``.
        to: 'count', 'byte', 'whole' or 'real'.
        high: the highest count.
        source: 'count', 'byte' or 'whole'.
        most: the largest magnitude of x.
        name: of the layer, for messages.
        lowered: where results are to be rounded down, ``(C_out,)`` of bool; None: nowhere.
        step: where M gets few bits, another worth, a multiple of this, takes the error of a channel's gain; None: none
            may.

    Raises:
        InputError: a channel's numbers fit no multiplier.
    """
    dim = int(layer.transposed)
    weight = layer.weight.detach().transpose(0, dim)
    # Its result is its offset, whatever it sees.
    silent = gain.abs() / worth * weight.double().abs().flatten(1).sum(1) * most < (0.5 if to != 'real' else 2.0**-60)
    wanted = torch.where(silent, torch.ones_like(gain), gain.abs() / worth)  # y = wanted * S + target
    lowered = torch.zeros_like(silent) if lowered is None else lowered
    target, sign = offset / worth - lowered.double() / 2, torch.where(gain < 0, -1.0, 1.0).double()
    zero = float(ZERO) if to == 'byte' else 0.0
    span = {'count': high + 1, 'byte': 2 * ZERO, 'whole': 2**15, 'real': 0}[to]
    # Bytes times weights: older processors add two such products in 16 bits.
    top = LARGEST_BYTE if source == 'count' else LARGEST_BYTE // 2 + 1

    def column(values: Tensor) -> Tensor:
        return values.view(-1, *[1] * (weight.dim() - 1))

    few = torch.zeros_like(silent)  # channels whose M has few bits

    def bias_for(scale: Tensor) -> Tensor:
        bias = (target + zero) / scale
        return torch.where(few, 2 * ((bias - 1) / 2).round() + 1, bias.round())

    multiplier = sign
    if to == 'real':
        if not layer.integer:
            raise InputError(f'{name}: real weights before an output have to be quantized first')
        scale = gain.clone()
        multiplier = torch.ones_like(gain)
        # A product, not a quotient, ends the network; of a silent channel one times its offset.
        scale[silent] = offset[silent]
        bias = torch.where(silent, torch.ones_like(gain), (offset / scale).round())
        weight, mantissa = weight.clone(), torch.ones_like(gain)
    elif layer.integer:
        finest = _finer_by(weight, wanted, target, zero, span, top, most, to, high, source)
        total = weight.double().abs().flatten(1).sum(1) * most
        if to == 'byte' and 2 * int(weight.abs().max()) <= LARGEST_BYTE:
            room = EXACT / 2 / ((target + zero).abs() / wanted + 1 + torch.minimum(total, span / wanted))
            few = (finest < 0) & (room >= 2) & ~silent
            finest = torch.where(few, torch.ones_like(finest), finest)
        shift, scale, mantissa = _least_error(wanted, total, finest, bias_for, target + zero, span, to != 'whole')
        if step is not None and bool(few.any()):
            exact = gain.abs() / (scale * 2**shift)
            worth = torch.where(few, (exact / step).round().clamp_min(1) * step, worth)
            lowered = lowered & ~few
            target = torch.where(few, offset / worth, target)
        multiplier = sign * 2 ** shift.clamp_min(0)
        weight = (weight * column(2.0 ** shift.clamp_max(0))).round().to(torch.int8)
    else:
        digits = 1 if to == 'whole' else max(5, 1 + math.ceil(math.log2(_twice(to, high))))
        scale, mantissa = _step_of_few_bits(weight.abs().flatten(1).amax(1) * wanted / top, digits, to != 'whole')
        for _ in range(MOST_BITS):  # fewer bits of weight where sums would be too large for M
            scale = torch.where(mantissa * (bias_for(scale).abs() + span / scale) >= EXACT, 2 * scale, scale)
        weight = (weight * column(wanted / scale)).round().clamp(-LARGEST_BYTE, LARGEST_BYTE).to(torch.int8)
    if to != 'real':
        # Too small to show, at the latest after rounding.
        silent |= (weight.double() * column(multiplier)).abs().flatten(1).sum(1) * most * scale < 0.5
        constant = target.round().clamp(*((0, high) if to == 'count' else (-span / 2 + 1, span / 2 - 1)))
        scale = torch.where(silent, torch.ones_like(scale), scale)
        mantissa = torch.where(silent, torch.ones_like(mantissa), mantissa)
        bias = torch.where(silent, constant + zero, bias_for(scale))
    weight[silent] = 0
    multiplier = torch.where(silent, torch.ones_like(multiplier), multiplier)
    reach = (weight.double() * column(multiplier)).abs().flatten(1).sum(1) * most
    apart = (multiplier % 2 == 0) & (bias.abs() % 2 == 1) & (mantissa % 2 == 1) & (mantissa / scale >= 4)
    _check(name, to, high, span, silent, mantissa, scale, bias, reach, apart)
    bits = layer.weight_bits if layer.integer else 8
    return Numbers(weight.transpose(0, dim), multiplier.int(), bias.int(), scale, bits, worth, lowered)


def _least_error(
    wanted: Tensor, total: Tensor, finest: Tensor, bias_for, target: Tensor, span: float, odd: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the power of two to take weights times, multipliers and their M, of the least error.

    Finer biases take bits of M: the sum of both errors, of a usual result, is to be small.
    """
    least = torch.full_like(finest, math.inf)
    shift, scale, mantissa = finest, finest, finest
    for steps in range(FINER + 1):
        tried = torch.where(finest > 1, (finest - steps).clamp_min(0), finest)
        reach = total * 2**tried
        at, bits = _few_bits(wanted / 2**tried, reach, bias_for, span, odd=odd)
        bias = bias_for(at)
        error = (at * 2**tried / wanted - 1).abs() * span / SHARE + (bias * at - target).abs()
        better = (error < least) & (reach + bias.abs() <= EXACT) | torch.isinf(least)
        least, shift = torch.where(better, error, least), torch.where(better, tried, shift)
        scale, mantissa = torch.where(better, at, scale), torch.where(better, bits, mantissa)
    return shift, scale, mantissa


def _finer_by(
    weight: Tensor,
    wanted: Tensor,
    target: Tensor,
    zero: float,
    span: float,
    top: int,
    most: int,
    to: str,
    high: int,
    source: str,
) -> Tensor:
    """Return the power of two that low-bit weights may be taken times: as fine as leaves M enough bits to avoid halves.

    A negative one costs them bits: in a channel that hardly shows in its tensor.
    """
    largest = weight.flatten(1).double().abs().amax(1).clamp_min(1)
    if to == 'whole' or source == 'whole':
        return torch.zeros_like(largest)
    shift = torch.floor(torch.log2(top / largest)).clamp(0, FINER)
    need = 4 * ZERO + 2**9 + 4 if to == 'byte' else 4 * high + 8
    for _ in range(FINER + MOST_BITS):
        bias = ((target + zero) / wanted * 2**shift).abs()
        reach = weight.double().abs().flatten(1).sum(1) * most * 2**shift
        room = EXACT / (bias + torch.minimum(reach, span / wanted * 2**shift))
        shift = torch.where(room < need, shift - 1, shift).clamp_min(-MOST_BITS)
    return shift


def _twice(to: str, high: int) -> int:
    """Return twice the number of results, which M has to exceed."""
    return 2 * (high + 1) if to == 'count' else 4 * ZERO


def _few_bits(wanted: Tensor, reach: Tensor, bias_for, span: float, odd: bool) -> tuple[Tensor, Tensor]:
    """Return the multipliers nearest to those wanted, and their M, as large as rule 1 allows."""
    room = EXACT / (bias_for(wanted).abs() + 1 + torch.minimum(reach, span / wanted))
    exponent = torch.floor(torch.log2(room / wanted))
    exact = wanted * 2**exponent
    if odd:
        mantissa = 2 * (exact / 2).floor() + 1
        mantissa = torch.where(mantissa > room, mantissa - 2, mantissa)
    else:
        mantissa = torch.where(exact.round() > room, exact.floor(), exact.round()).clamp_min(1)
    return mantissa / 2**exponent, mantissa


def _step_of_few_bits(wanted: Tensor, few: int, odd: bool) -> tuple[Tensor, Tensor]:
    """Return the next multipliers from those wanted whose M has so many bits, and M."""
    wanted = torch.where(wanted > 0, wanted, torch.ones_like(wanted))
    exponent = torch.floor(torch.log2(wanted)) - (few - 1)
    mantissa = torch.ceil(wanted / 2**exponent)
    if odd:
        mantissa = mantissa + (mantissa % 2 == 0).double()
    return mantissa * 2**exponent, mantissa


def _check(
    name: str,
    to: str,
    high: int,
    span: float,
    silent: Tensor,
    mantissa: Tensor,
    scale: Tensor,
    bias: Tensor,
    reach: Tensor,
    apart: Tensor,
) -> None:
    """Raise InputError for the first channel that breaks a rule."""

    def refuse(broken: Tensor, rule: str) -> None:
        if bool(broken.any()):
            channel = int(broken.nonzero()[0])
            raise InputError(
                f'{name}, channel {channel}: {rule} does not hold: M={mantissa[channel]:.0f}, m={scale[channel]:.6g}, '
                f'b={bias[channel]:.0f}, |S| up to {reach[channel]:.0f}; a narrower D, or a norm that does not amplify '
                'so much, would mend it'
            )

    refuse(~torch.isfinite(scale) | (scale == 0) & (to != 'real'), 'a multiplier that is a number above zero')
    refuse(reach + bias.abs() > EXACT, '|S| + |b| <= 2^24')
    if to == 'real':
        return
    within = bias.abs() + torch.minimum(reach, span / scale)
    refuse((mantissa * within >= EXACT) & ~silent, 'M (|b| + span / m) < 2^24')
    if to != 'whole':
        twice = _twice(to, high)
        refuse(((mantissa % 2 == 0) | (mantissa <= twice)) & ~silent & ~apart, f'M odd and above {twice}')
