"""Neurons as plans fire them: round to the nearest whole count, and carry over what a power of two can share out.

A leaky neuron with hard reset, ``u = h + (x - (h - reset)) / tau``, that fires at ``u >= threshold``, is one that
rounds and counts to 1: ``w = (u - reset) / (2 (threshold - reset))`` obeys

``w = (1 - 1 / tau) w_before + x / (2 tau (threshold - reset))``

and fires where it is at least 1/2, then is 0. So x is measured in thresholds of ``2 tau (threshold - reset)``. Without
time steps nothing is carried over, and any tau goes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from qsdt_mm.errors import InputError
from qsdt_mm.models.neurons import IELIF, LIF, ParametricLIF

from .steps import EXACT, GRID

MOST_COUNT = 127
DECAY_DIGITS = 8
"""A decay that is carried over may have so many binary digits."""
GRID_DIGITS = 1 - int(math.log2(GRID))
"""Binary digits of a membrane, half a step of its grid included."""
FEWEST_DIGITS = 8


@dataclass(frozen=True)
class Firing:
    """A neuron that counts ``n = clip(rne(u / threshold), 0, most)`` and carries ``decay * (u - n * threshold)`` over.

    Args:
        threshold: in units of what the neuron receives.
        most: the highest count.
        scale: worth of a spike.
        time_steps: T.
        decay: share that is carried over, a multiple of a power of two.
        resets: whether nothing is carried over where it has fired.
        half_up: whether it fires exactly on a half.

    >>> Firing.of(LIF(tau=2.0, threshold=1.0, time_steps=4))
    Firing(threshold=4.0, most=1, scale=1.0, time_steps=4, decay=0.5, resets=True, half_up=True)
    """

    threshold: float
    most: int
    scale: float
    time_steps: int = 1
    decay: float = 1.0
    resets: bool = False
    half_up: bool = True

    @classmethod
    def of(cls, neuron: nn.Module) -> Firing:
        """Return how a neuron fires.

        Raises:
            InputError: it has no form in whole numbers.
        """
        kind = type(neuron).__name__
        if type(neuron) is IELIF:
            decay, resets, half_up = neuron.decay, False, neuron.rounding == 'half_up'
            threshold = neuron.threshold
            leak = f'{kind} with decay={decay:g}'
        elif type(neuron) in (LIF, ParametricLIF):
            learned = type(neuron) is ParametricLIF
            tau = 1 + math.exp(float(neuron.w.detach())) if learned else neuron.tau
            decay = float(neuron.decay.detach()) if learned else (tau - 1) / tau
            threshold, resets, half_up = 2 * tau * (neuron.threshold - neuron.reset), True, True
            leak = f'{kind} with tau={tau:g}'
        else:
            raise InputError(f'{kind} fires by another rule; IELIF, LIF and ParametricLIF can be deployed')
        if not math.isfinite(threshold):
            raise InputError(f'{leak}: its threshold is beyond all numbers')
        if neuron.max_spike_count > MOST_COUNT:
            raise InputError(f'D={neuron.max_spike_count} exceeds {MOST_COUNT}')
        if neuron.time_steps > 1 and not (decay * 2**DECAY_DIGITS).is_integer():
            raise InputError(
                f'{leak} over T={neuron.time_steps} carries {decay:.6g} of a membrane over, which leaves its grid; '
                'shares of a power of two can be deployed: tau of 1, 2, 4, 8 and so on, or decay of 1, 1/2, 3/4'
            )
        count, steps = neuron.max_spike_count, neuron.time_steps
        return cls(threshold, count, neuron.scale, steps, decay if steps > 1 else 1.0, resets and steps > 1, half_up)

    def digits(self, most: float) -> int | None:
        """Return how many binary digits of a membrane to keep over time, so that float32 is exact.

        Args:
            most: the largest magnitude that it receives in one time step.

        Returns:
            None: all that there are.

        Raises:
            InputError: too few are left.
        """
        if self.time_steps == 1:
            return None
        reach = most * sum(self.decay**t for t in range(self.time_steps)) + 1
        finer = next(k for k in range(DECAY_DIGITS + 1) if (self.decay * 2**k).is_integer())
        room = int(math.log2(EXACT)) - math.ceil(math.log2(reach))
        if room < FEWEST_DIGITS:
            raise InputError(
                f'its membrane may reach {reach:.0f} thresholds over T={self.time_steps}: {room} binary digits would '
                f'be left for what is below one, and {FEWEST_DIGITS} are needed'
            )
        return room if room < GRID_DIGITS + finer * (self.time_steps - 1) else None
