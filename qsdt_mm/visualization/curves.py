"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .figures import literal, new_figure, whole_epochs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAINT, STRONG = '#b0b0b0', '#2166ac'


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the last ``window`` values at each place, of fewer at the start; same length."""
    total = np.cumsum(np.insert(values, 0, 0.0))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - window, 0)
    return (total[end] - total[start]) / (end - start)


def draw_learning_curves(
    times: np.ndarray, losses: np.ndarray, metrics: Mapping[str, Sequence[tuple[float, float]]], unit: str
) -> Figure:
    """Draw the training loss with its running mean, and the validation metrics.

    Args:
        times: when each loss was, in ``unit``.
        losses: one for each iteration.
        metrics: by name, pairs of a time and a value, one or more.
        unit: of time, 'epoch' or 'iteration'.
    """
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    window = max(len(losses) // 50, 1)
    look = dict(color=FAINT, linewidth=0.6) if window > 1 else dict(color=STRONG)
    left.plot(times, losses, label='each iteration', **look)
    if window > 1:
        left.plot(times, running_mean(losses, window), color=STRONG, label=f'mean of {window}')
    left.set(title='Training loss', xlabel=unit)
    left.legend(frameon=False)
    for name, points in metrics.items():
        right.plot(*zip(*points), marker='o', markersize=3, label=literal(f'{name}: {points[-1][1]:.4g}'))
    right.set(title='Validation', xlabel=unit)
    if right.lines:
        right.legend(frameon=False)
    for axes in (left, right):
        whole_epochs(axes, unit)
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    return figure
