"""Several trainings in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]


def draw_runs(
    metric: str, results: Mapping[str, Curve], losses: Mapping[str, Curve], dots: Mapping[str, tuple[float, float]]
) -> Figure:
    """Draw the runs' losses and results over each other, and the best result against the firing rate, a dot a run.

    Args:
        metric: name of the result.
        results: by run, pairs of a step and the result.
        losses: by run, pairs of an iteration and the loss.
        dots: by run, firing rate and best result, where both are known.
    """
    figure = new_figure(12 if dots else 9, 3.6)
    axes = figure.subplots(1, 3 if dots else 2)
    for i, (name, curve) in enumerate(losses.items()):
        colour = f'C{i % 10}'
        if curve:
            axes[0].plot(*zip(*curve), color=colour, linewidth=1, label=name)
        if results.get(name):
            axes[1].plot(*zip(*results[name]), color=colour, marker='o', markersize=3, label=name)
        if name in dots:
            axes[2].plot(*dots[name], color=colour, marker='o')
            axes[2].annotate(name, dots[name], xytext=(4, 4), textcoords='offset points', fontsize=8)
    axes[0].set(title='Training loss', xlabel='iteration')
    axes[1].set(title=metric, xlabel='step')
    if dots:
        axes[2].set(title='Best result and spikes', xlabel='mean firing rate', ylabel=metric)
    for each in axes:
        each.grid(alpha=0.3)
        each.spines[['top', 'right']].set_visible(False)
    if axes[0].lines:
        axes[0].legend(frameon=False, fontsize=8)
    return figure
