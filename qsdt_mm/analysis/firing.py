"""Activity of neurons: firing rates, and the frequency of each spike count."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from qsdt_mm.compat.renamed import refuse_old_attributes


@refuse_old_attributes
@dataclass
class NeuronActivity:
    """Counts of one neuron over all that it saw.

    Args:
        max_spike_count: D.
        histogram: how often each count 0..D occurred.
        time_steps: T.
        step_spikes: spikes fired in each time step.

    >>> activity = NeuronActivity(max_spike_count=4)
    >>> activity.add(torch.tensor([0.0, 1.0, 4.0, 4.0]))
    >>> activity.spikes, activity.rate, activity.histogram
    (9, 0.5625, [1, 1, 0, 0, 2])
    """

    max_spike_count: int
    histogram: list[int] = field(default_factory=list)
    time_steps: int = 1
    step_spikes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.histogram = self.histogram or [0] * (self.max_spike_count + 1)
        self.step_spikes = self.step_spikes or [0] * self.time_steps

    def add(self, count: Tensor) -> None:
        """Take in counts, any shape; with T > 1 ``(T * N, ...)``, time first."""
        if self.time_steps > 1:
            by_step = count.unflatten(0, (self.time_steps, -1)).flatten(1).sum(1, dtype=torch.float64).tolist()
            self.step_spikes = [before + round(more) for before, more in zip(self.step_spikes, by_step)]
        # Comparisons are several times faster than bincount here.
        seen = [int((count == n).sum()) for n in range(1, self.max_spike_count + 1)]
        for n, more in enumerate([count.numel() - sum(seen), *seen]):
            self.histogram[n] += more
        if self.time_steps == 1:
            self.step_spikes = [self.spikes]

    @property
    def elements(self) -> int:
        """Return the number of elements seen, time steps included."""
        return sum(self.histogram)

    @property
    def spikes(self) -> int:
        """Return the number of spikes fired."""
        return sum(n * times for n, times in enumerate(self.histogram))

    def spikes_in(self, coding: str) -> int:
        """Return the number of spikes fired in slots of a coding: ``spikes`` in unary ones, ones among bits."""
        return sum((n if coding == 'unary' else n.bit_count()) * times for n, times in enumerate(self.histogram))

    @property
    def rate(self) -> float:
        """Return the firing rate: spikes / (elements x T x D), in [0, 1]."""
        return self.spikes / max(self.elements * self.max_spike_count, 1)

    @property
    def step_rates(self) -> list[float]:
        """Return the firing rate in each time step."""
        places = max(self.elements * self.max_spike_count, 1) / self.time_steps
        return [spikes / places for spikes in self.step_spikes]

    @property
    def count_distribution(self) -> list[float]:
        """Return the share of each count 0..D."""
        return [times / max(self.elements, 1) for times in self.histogram]


def spike_counts(output: Tensor, scale: float) -> Tensor:
    """Return the counts behind a neuron's output ``n * scale``, exact integers."""
    return torch.round(output.detach() / scale)
