"""What neurons fire: rates, and how often each count occurs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class NeuronActivity:
    """Counts of one neuron over all that it saw.

    Args:
        levels: D.
        histogram: how often each count 0..D occurred.
    """

    levels: int
    histogram: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.histogram = self.histogram or [0] * (self.levels + 1)

    def add(self, count: Tensor) -> None:
        """Take in counts, any shape."""
        # Comparisons are several times faster than bincount here.
        seen = [int((count == n).sum()) for n in range(1, self.levels + 1)]
        for n, more in enumerate([count.numel() - sum(seen), *seen]):
            self.histogram[n] += more

    @property
    def elements(self) -> int:
        """Elements seen, time steps included."""
        return sum(self.histogram)

    @property
    def spikes(self) -> int:
        """Spikes fired."""
        return sum(n * times for n, times in enumerate(self.histogram))

    @property
    def rate(self) -> float:
        """Firing rate: spikes / (elements x T x D), in [0, 1]."""
        return self.spikes / max(self.elements * self.levels, 1)

    @property
    def shares(self) -> list[float]:
        """Share of each count 0..D."""
        return [times / max(self.elements, 1) for times in self.histogram]


def spike_counts(output: Tensor, scale: float) -> Tensor:
    """Counts behind a neuron's output ``n * scale``, exact integers."""
    return torch.round(output.detach() / scale)
