"""Binary slots: a count ``n`` in ``{0..D}`` as D spikes of which the first n fire, and what can be summed over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from qsdt_mm.models.neurons.functional import check_rounding

Product = Callable[[Tensor, Tensor], Tensor]


def slots(count: Tensor, max_spike_count: int) -> Iterator[Tensor]:
    """Yield the D binary slots of counts, one at a time: slot d fires where ``n >= d`` (thermometer order).

    Args:
        count: integers from 0 to D, any shape, any dtype.
        max_spike_count: D.

    Yields:
        Zeros and ones, same shape and dtype.
    """
    for d in range(1, max_spike_count + 1):
        yield (count >= d).to(count.dtype)


def fired_slots(
    membrane: Tensor, threshold: float, max_spike_count: int, rounding: str = 'half_up'
) -> Iterator[Tensor]:
    """Yield the slots of a neuron's count straight from its membrane, by one comparison each, as hardware would.

    Slot d fires where ``u >= (d - 0.5) * threshold``; for odd d, where halves round to even, only where it is above.

    Args:
        membrane: u, any shape.
        threshold, max_spike_count, rounding: as in :func:`~qsdt_mm.models.neurons.spike_count`.

    Yields:
        Zeros and ones, same shape and dtype.
    """
    check_rounding(rounding)
    ratio = membrane / threshold
    for d in range(1, max_spike_count + 1):
        to_even = ratio > d - 0.5 if d % 2 else ratio >= d - 0.5
        # Half up with the sum that the count takes, whose rounding is part of it.
        yield (to_even if rounding == 'half_even' else ratio + 0.5 >= d).to(membrane.dtype)


def sum_over_slots(linear: Callable[[Tensor], Tensor], count: Tensor, max_spike_count: int) -> Tensor:
    """Compute ``sum_d linear(s_d)``: a linear map of counts, from binary spikes alone.

    Only one slot exists at a time, so that memory does not grow with D.
    """
    total = None
    for spikes in slots(count, max_spike_count):
        part = linear(spikes)
        total = part if total is None else total.add_(part)
    return total


def product_over_slots(product: Product, left: Tensor, right: Tensor, max_spike_count: int) -> Tensor:
    """Compute ``product(sum_d a_d, sum_d b_d)`` of two streams of slots that arrive together.

    ``P_d = P_(d-1) + product(a_d, B_(<=d)) + product(A_(<d), b_d)``, with running sums A and B: every product has a
    binary factor, which selects what is added, and no cross term between slots is lost.

    Args:
        product: bilinear.
        left, right: counts from 0 to D.
        max_spike_count: D.
    """
    total, left_sum, right_sum = None, torch.zeros_like(left), torch.zeros_like(right)
    for left_spikes, right_spikes in zip(slots(left, max_spike_count), slots(right, max_spike_count)):
        right_sum += right_spikes
        part = product(left_spikes, right_sum)
        # In the first slot A_(<1) is zero.
        total = part if total is None else total.add_(part).add_(product(left_sum, right_spikes))
        left_sum += left_spikes
    return total
