"""Firing rates while a network trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .energy import part_of
from .figures import literal, new_figure, whole_epochs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = 'firing_rates_by_epoch.png'
RED, DARK_RED = '#c51b1b', '#7a0c0c'
MARKED = 0.5
"""Share of a neuron's channels; where so many are silent or saturated, the neuron is marked."""
Watched = Mapping[str, tuple[float, float, float]]


@dataclass
class PartRates:
    """Firing of one part of a network: a stage, or a neck or head.

    Args:
        name: 'stage 1', say.
        rates: mean firing rate of its neurons, each time that they were watched.
        silent, saturated: the largest share among its neurons of channels that fire nothing, or always all they can.

    >>> parts_of([{'stages.1.neuron': (0.25, 0.0, 0.75), 'stages.1.other': (0.75, 0.5, 0.0)}])
    [PartRates(name='stage 1', rates=[0.5], silent=[0.5], saturated=[0.75])]
    """

    name: str
    rates: list[float]
    silent: list[float]
    saturated: list[float]


def parts_of(watched: Sequence[Watched]) -> list[PartRates]:
    """Return firing by part, in the network's order.

    Args:
        watched: each time, by neuron, firing rate and shares of silent and saturated channels. A neuron that was not
            seen at some time counts as it was before.
    """
    names = dict.fromkeys(name for seen in watched for name in seen)
    latest: dict[str, tuple[float, float, float]] = {}
    parts = {part: PartRates(f'stage {part}' if part.isdigit() else part, [], [], []) for part in map(part_of, names)}
    nothing = float('nan')
    for seen in watched:
        latest.update(seen)
        for part, rates in parts.items():
            rows = [latest[name] for name in names if part_of(name) == part and name in latest]
            rates.rates.append(sum(row[0] for row in rows) / len(rows) if rows else nothing)
            rates.silent.append(max((row[1] for row in rows), default=nothing))
            rates.saturated.append(max((row[2] for row in rows), default=nothing))
    return list(parts.values())


def draw_firing_rates(times: Sequence[float], watched: Sequence[Watched], unit: str) -> Figure:
    """Draw the firing rate of each part of a network while it trains, and channels that are silent or saturated.

    A part is marked in red where a neuron has at least half of its channels silent (down) or saturated (up).

    Args:
        times: when neurons were watched, in ``unit``.
        watched: each time, by neuron, firing rate and shares of silent and saturated channels.
        unit: of time, 'epoch' or 'iteration'.
    """
    import matplotlib

    parts = parts_of(watched)
    figure = new_figure(9.5, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    colours = matplotlib.colormaps['viridis']
    for i, part in enumerate(parts):
        colour = colours(0.9 * i / max(len(parts) - 1, 1))
        left.plot(times, part.rates, color=colour, marker='o', markersize=2.5, label=literal(part.name))
        for shares, marker in ((part.silent, 'v'), (part.saturated, '^')):
            marked = [(t, rate) for t, rate, share in zip(times, part.rates, shares) if share >= MARKED]
            if marked:
                left.plot(*zip(*marked), marker, color=RED, markersize=7, zorder=3)
    handles, _ = left.get_legend_handles_labels()
    handles += left.plot([], [], 'v', color=RED, label='half a neuron silent')
    handles += left.plot([], [], '^', color=RED, label='half a neuron saturated')
    left.set(title='Firing rate', xlabel=unit)
    left.set_ylim(bottom=0)
    figure.legend(handles=handles, loc='outside right center', frameon=False, fontsize=8)
    for place, colour, style, words in (
        (1, RED, '-', 'silent: never fire'),
        (2, DARK_RED, '--', 'saturated: always fire D'),
    ):
        shares = [100 * sum(row[place] for row in seen.values()) / max(len(seen), 1) for seen in watched]
        right.plot(times, shares, style, color=colour, label=words)
    right.set(title='Channels of all neurons, %', xlabel=unit)
    right.set_ylim(0, max(10.0, 1.3 * right.get_ylim()[1]))
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        whole_epochs(axes, unit)
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    return figure
