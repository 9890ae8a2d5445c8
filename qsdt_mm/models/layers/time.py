"""Operations on time steps, which lie in the batch, T first."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_over_time(feature: Tensor, time_steps: int) -> Tensor:
    """Average ``(T * N, ...) -> (N, ...)``: steps summed in their order, times 1/T, so that all devices round alike."""
    steps = feature.unflatten(0, (time_steps, -1))
    if feature.dtype not in (torch.float32, torch.float64):
        return steps.mean(0)  # sums in float32
    total, *others = steps.unbind(0)
    for step in others:
        total = total + step
    return total if time_steps == 1 else total * (1 / time_steps)
