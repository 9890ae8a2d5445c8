"""Several trainings in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .figures import literal, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]


def draw_runs(
    metric: str,
    results: Mapping[str, Curve],
    losses: Mapping[str, Curve],
    dots: Mapping[str, tuple[float, float]],
    of_energy: bool = False,
) -> Figure:
    """Draw the runs' losses and results over each other, and the best result against what it costs, a dot a run.

    Args:
        metric: name of the result.
        results: by run, pairs of a step and the result.
        losses: by run, pairs of an iteration and the loss.
        dots: by run, firing rate or energy in mJ, and best result, where both are known.
        of_energy: dots are of energy.
    """
    figure = new_figure(12 if dots else 9, 3.6)
    axes = figure.subplots(1, 3 if dots else 2)
    for i, (name, curve) in enumerate(losses.items()):
        colour = f'C{i % 10}'
        if curve:
            axes[0].plot(*zip(*curve), color=colour, linewidth=1, label=literal(name))
        if results.get(name):
            axes[1].plot(*zip(*results[name]), color=colour, marker='o', markersize=3, label=literal(name))
        if name in dots:
            axes[2].plot(*dots[name], color=colour, marker='o')
            axes[2].annotate(literal(name), dots[name], xytext=(4, 4), textcoords='offset points', fontsize=8)
    axes[0].set(title='Training loss', xlabel='iteration')
    axes[1].set(title=literal(metric), xlabel='step')
    if dots:
        title, cost = ('energy', 'mJ an image, operations') if of_energy else ('spikes', 'mean firing rate')
        axes[2].set(title=f'Best result and {title}', xlabel=cost, ylabel=literal(metric))
        axes[2].margins(0.2)
    for each in axes:
        each.grid(alpha=0.3)
        each.spines[['top', 'right']].set_visible(False)
    if axes[0].lines:
        axes[0].legend(frameon=False, fontsize=8)
    return figure
