"""Binary slots: a count ``n`` in ``{0..D}`` as spikes, D of equal worth or as few as the count has binary digits.

In unary coding the first n of D slots fire. In bitwise coding slots are worth 2^(B-1), ..., 2, 1, the largest first:
the binary digits of n, B of them for D. Sums over slots then shift before each slot: ``S <- base * S + W s``, with base
1 (nothing to shift) or 2. Partial sums are those of smaller counts, so that all are exact if those of counts are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from qsdt_mm.errors import require
from qsdt_mm.models.neurons.functional import check_rounding

Product = Callable[[Tensor, Tensor], Tensor]

BASES = {'unary': 1, 'bitwise': 2}
"""By coding, what the sum of all slots before is multiplied by when the next one is added."""
CODINGS = tuple(BASES)


def check_coding(coding: str) -> None:
    """Raise ``ValueError`` unless there is such a coding."""
    require(coding in CODINGS, 'coding', coding, ' or '.join(CODINGS))


def number_of_slots(max_spike_count: int, coding: str = 'unary') -> int:
    """Return how many slots carry counts up to D: D, or the binary digits of D.

    >>> [number_of_slots(most, 'bitwise') for most in (1, 2, 3, 4, 7, 8, 15)]
    [1, 2, 2, 3, 3, 4, 4]
    """
    check_coding(coding)
    return max_spike_count if coding == 'unary' else max_spike_count.bit_length()


def slots(count: Tensor, max_spike_count: int, coding: str = 'unary') -> Iterator[Tensor]:
    """Yield the binary slots of counts, one at a time.

    Unary: slot d of D fires where ``n >= d`` (thermometer order). Bitwise: the digits of n, the largest first.

    Args:
        count: integers from 0 to D, any shape, any dtype.
        max_spike_count: D.
        coding: 'unary' or 'bitwise'.

    Yields:
        Zeros and ones, same shape and dtype.

    >>> torch.stack(list(slots(torch.tensor([3, 4]), 4))).tolist()
    [[1, 1], [1, 1], [1, 1], [0, 1]]
    >>> torch.stack(list(slots(torch.tensor([3, 4]), 4, 'bitwise'))).tolist()
    [[0, 1], [1, 0], [1, 0]]
    """
    check_coding(coding)
    if coding == 'unary':
        for d in range(1, max_spike_count + 1):
            yield (count >= d).to(count.dtype)
        return
    for worth in worths(max_spike_count, coding):
        spikes = (count >= worth).to(count.dtype)
        count = count - worth * spikes
        yield spikes


def worths(max_spike_count: int, coding: str = 'unary') -> list[int]:
    """Return what a spike of each slot is worth, in order.

    >>> worths(4), worths(4, 'bitwise')
    ([1, 1, 1, 1], [4, 2, 1])
    """
    number, base = number_of_slots(max_spike_count, coding), BASES[coding]
    return [base ** (number - 1 - i) for i in range(number)]


def number_of_spikes(count: Tensor, max_spike_count: int, coding: str = 'unary') -> Tensor:
    """Count the slots that fire for each count: the count itself, or how many of its binary digits are 1.

    >>> number_of_spikes(torch.tensor([0, 3, 4]), 4, 'bitwise').tolist()
    [0, 2, 1]
    """
    check_coding(coding)
    return count if coding == 'unary' else sum(slots(count, max_spike_count, coding))


def fired_slots(
    membrane: Tensor, threshold: float, max_spike_count: int, rounding: str = 'half_up', coding: str = 'unary'
) -> Iterator[Tensor]:
    """Yield the slots of a neuron's count straight from its membrane, by one comparison each, as hardware would.

    Unary: slot d fires where ``u >= (d - 0.5) * threshold``; for odd d, where halves round to even, only where it is
    above. Bitwise: the same comparison, with d the worth of the slot and of all that have fired before it, and only
    where d is at most D (successive approximation).

    Args:
        membrane: u, any shape.
        threshold, max_spike_count, rounding: as in :func:`~qsdt_mm.models.neurons.spike_count`.
        coding: 'unary' or 'bitwise'.

    Yields:
        Zeros and ones, same shape and dtype.
    """
    check_rounding(rounding)
    ratio = membrane / threshold
    fired = torch.zeros_like(ratio)
    for i, worth in enumerate(worths(max_spike_count, coding), 1):
        d = i if coding == 'unary' else fired + worth
        odd = i % 2 if coding == 'unary' else worth == 1  # all that fired before is worth an even number
        to_even = ratio > d - 0.5 if odd else ratio >= d - 0.5
        # Half up with the sum that the count takes, whose rounding is part of it.
        spikes = to_even if rounding == 'half_even' else ratio + 0.5 >= d
        if coding == 'bitwise':
            spikes &= d <= max_spike_count
            fired = fired + worth * spikes
        yield spikes.to(membrane.dtype)


def sum_over_slots(
    linear: Callable[[Tensor], Tensor], count: Tensor, max_spike_count: int, coding: str = 'unary'
) -> Tensor:
    """Compute ``linear(n)``, a linear map of counts, from binary spikes alone: ``S <- base * S + linear(s)``.

    Only one slot exists at a time, so that memory does not grow with D.
    """
    total, base = None, BASES.get(coding, 1)
    for spikes in slots(count, max_spike_count, coding):
        part = linear(spikes)
        total = part if total is None else shifted(total, base).add_(part)
    return total


def shifted(total: Tensor, factor: int) -> Tensor:
    """Multiply a sum by a power of two, in place: on hardware a shift."""
    return total if factor == 1 else total.mul_(factor)


def product_over_slots(
    product: Product, left: Tensor, right: Tensor, max_spike_count: int, coding: str = 'unary'
) -> Tensor:
    """Compute ``product(A, B)`` of the counts of two streams of slots that arrive together.

    With sums A and B of what has come, and ``A' = base * A + a`` and ``B' = base * B + b`` with the next slots:
    ``product(A', B') = base^2 * product(A, B) + product(a, B') + product(base * A, b)``. Every product has a binary
    factor, which selects what is added, and no cross term between slots is lost.

    Args:
        product: bilinear.
        left, right: counts from 0 to D.
        max_spike_count: D.
        coding: 'unary' or 'bitwise'.
    """
    total, left_sum, right_sum = None, torch.zeros_like(left), torch.zeros_like(right)
    base = BASES.get(coding, 1)
    pairs = zip(slots(left, max_spike_count, coding), slots(right, max_spike_count, coding))
    for left_spikes, right_spikes in pairs:
        left_sum, right_sum = shifted(left_sum, base), shifted(right_sum, base).add_(right_spikes)
        part = product(left_spikes, right_sum)
        # With the first slots A is zero.
        total = part if total is None else shifted(total, base**2).add_(part).add_(product(left_sum, right_spikes))
        left_sum += left_spikes
    return total
