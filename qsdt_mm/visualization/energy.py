"""Figures of firing and energy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qsdt_mm.analysis.energy import EnergyReport
from qsdt_mm.analysis.energy_table import HOROWITZ, EnergyTable
from qsdt_mm.analysis.traffic import Tally

from .figures import literal, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {'spikes': '#2166ac', 'image': '#b2182b', 'membrane': '#ef8a62', 'floats': '#4d4d4d'}
DENSE = '0.8'

PARTS = {
    'operations': '#4d4d4d',
    'weights': '#b2182b',
    'activations': '#2166ac',
    'membranes': '#ef8a62',
    'sums': '0.75',
}


def plot_energy(
    report: EnergyReport,
    path: Path,
    memory: Mapping[str, Mapping[str, Tally]] | None = None,
    table: EnergyTable = HOROWITZ,
) -> None:
    """Draw what a network costs beside a dense one, in which stage, and what its neurons fire.

    From above: energy of both networks; energy by stage, with the three dearest layers; with ``memory`` that of each
    form; firing rate of each neuron; share of each count, by neuron; with T > 1 firing rates by time step.

    Args:
        report: what is drawn.
        path: the PNG file to write.
        memory: by dataflow and form, what the energy with memory is drawn of.
        table: its energies.
    """
    neurons = report.neurons
    in_time = len(report.step_rates) > 1
    heights = [1.3, 3.2, *([3.5] if memory else []), 2.2, 2.6, *([2.8] if in_time else [])]
    figure = new_figure(max(10, 0.16 * len(neurons)), 0.5 + sum(heights))
    whole, stages, *others = figure.subplots(len(heights), 1, height_ratios=heights)
    plot_whole(report, whole)
    plot_stages(report, stages)
    if memory:
        plot_memory(memory, table, others.pop(0))
    rates, counts, *over_time = others
    rates.bar(range(len(neurons)), [n.rate for n in neurons.values()], color=COLOURS['spikes'], width=0.9)
    rates.set(title=f'Firing rate of each neuron (mean {report.rate:.3f})', ylabel='rate')
    plot_counts(report, counts)
    if in_time:
        plot_time_steps(report, *over_time)
    mark_parts(rates, list(neurons))
    mark_parts(counts, list(neurons))
    rates.set(xlabel='')
    for axes in figure.axes:
        axes.spines[['top', 'right']].set_visible(False)
    save_figure(figure, Path(path))


def plot_whole(report: EnergyReport, axes: Axes) -> None:
    """Draw two bars, the dense network and the spiking one, and by what factor they differ."""
    dense, spiking = report.dense_energy_mj, report.energy_mj
    below = 0.0
    for driven_by, colour in COLOURS.items():
        energy = sum(row.energy for row in report.layers if row.driven_by == driven_by) * 1e-9
        axes.barh(0, energy, left=below, color=colour)
        below += energy
    axes.barh(1, dense, color=DENSE)
    factor = f', {dense / spiking:.1f} times less' if 0 < spiking <= dense else ''
    for place, energy, words in ((1, dense, ''), (0, spiking, factor)):
        axes.text(energy, place, f'  {energy:.4g} mJ{words}', va='center')
    axes.set_yticks([0, 1], ['spiking', 'dense'])
    axes.set(title=f'Energy of operations, mJ an image ({report.preset}, 45 nm)', xlim=(0, 1.35 * max(dense, spiking)))
    axes.tick_params(axis='y', length=0)


def plot_stages(report: EnergyReport, axes: Axes) -> None:
    """Draw the energy of each part of the network by what drives its layers, and name the dearest layers."""
    parts = list(dict.fromkeys(part_of(row.name) for row in report.layers))
    places = range(len(parts))

    def energies(driven_by: str) -> list[float]:
        rows = [row for row in report.layers if row.driven_by == driven_by]
        return [sum(row.energy for row in rows if part_of(row.name) == part) * 1e-6 for part in parts]

    below = [0.0] * len(parts)
    for driven_by, colour in COLOURS.items():
        found = energies(driven_by)
        if any(found):
            axes.bar(places, found, bottom=below, color=colour, width=0.7, label=f'driven by {driven_by}')
        below = [a + b for a, b in zip(below, found)]
    dense = [sum(row.dense_energy for row in report.layers if part_of(row.name) == part) * 1e-6 for part in parts]
    axes.plot(places, dense, '_', color='black', markersize=24, label='dense network')
    axes.set_xticks(places, [f'stage {part}' if part.isdigit() else part for part in parts])
    axes.tick_params(axis='x', length=0)
    axes.set(title='Energy by stage', ylabel='µJ an image')
    axes.set_ylim(bottom=0)
    beside = dict(loc='upper left', bbox_to_anchor=(1, 1), alignment='left')
    axes.legend(frameon=False, title=dearest(report), title_fontsize=8, **beside)


def dearest(report: EnergyReport, most: int = 3) -> str:
    """Return the layers that cost most, a line each, with their share of the whole."""
    rows = sorted(report.layers, key=lambda row: -row.energy)[:most]
    total = max(sum(row.energy for row in report.layers), 1e-30)
    costs = [f'{row.energy * 1e-6:.3g} µJ, {row.energy / total:.0%}' for row in rows]
    costs = [f'{row.energy * 1e-6:.3g} µJ, {row.energy / total:.0%}' for row in rows]
    lines = [f'{literal(row.name.removeprefix("backbone."))}\n  {cost}' for row, cost in zip(rows, costs)]
    return '\n'.join(['dearest layers:', *lines, ''])


def plot_counts(report: EnergyReport, axes: Axes) -> None:
    """Draw the share of each count, by neuron, dark where many spikes are fired."""
    neurons = report.neurons
    max_spike_count = max(n.max_spike_count for n in neurons.values())
    below = [0.0] * len(neurons)
    for count in range(max_spike_count + 1):
        heights = [n.count_distribution[count] if count <= n.max_spike_count else 0.0 for n in neurons.values()]
        shade = str(0.92 - 0.9 * count / max_spike_count)
        axes.bar(range(len(neurons)), heights, bottom=below, color=shade, width=0.9, label=str(count))
        below = [a + b for a, b in zip(below, heights)]
    axes.set(title='Share of each count, by neuron', ylabel='share', ylim=(0, 1))
    axes.legend(title='count', loc='upper left', bbox_to_anchor=(1, 1), frameon=False)


def plot_memory(memory: Mapping[str, Mapping[str, Tally]], table: EnergyTable, axes: Axes) -> None:
    """Draw the energy of each form in each dataflow, by what it is spent on."""
    bars = [(f'{name}, {dataflow}', tally) for dataflow, forms in memory.items() for name, tally in forms.items()]
    below = [0.0] * len(bars)
    for part, colour in PARTS.items():
        heights = []
        for _, tally in bars:
            accesses = sum(energy for (kind, *_), energy in tally.of_accesses(table).items() if kind == part)
            heights.append((tally.of_operations(table) if part == 'operations' else accesses) * 1e-6)
        axes.bar(range(len(bars)), heights, bottom=below, color=colour, width=0.7, label=part)
        below = [a + b for a, b in zip(below, heights)]
    axes.set_xticks(range(len(bars)), [re.sub(r', |(?<=-)', '\n', words) for words, _ in bars], fontsize=8)
    axes.set(title=f'Energy with memory, by form and dataflow ({table.name})', ylabel='µJ per image')
    axes.legend(frameon=False, loc='upper left', bbox_to_anchor=(1, 1))


def part_of(name: str) -> str:
    """Return the part of a network that a layer lies in: the number of its stage, or its first name (head, neck)."""
    stage = re.search(r'\bstages\.(\d+)', name)
    return stage[1] if stage else name.partition('.')[0]


def mark_parts(axes: Axes, names: Sequence[str]) -> None:
    """Mark the parts of the network below an axis of layers."""
    begins = [i for i, name in enumerate(names) if i == 0 or part_of(name) != part_of(names[i - 1])]
    ends = [*begins[1:], len(names)]
    axes.set_xticks([(begin + end - 1) / 2 for begin, end in zip(begins, ends)], [part_of(names[i]) for i in begins])
    axes.tick_params(axis='x', length=0)
    axes.set(xlabel='stage', xlim=(-0.5, len(names) - 0.5))
    for begin in begins[1:]:
        axes.axvline(begin - 0.5, color='0.75', linewidth=0.8, zorder=0)


def plot_time_steps(report: EnergyReport, axes: Axes) -> None:
    """Draw the firing rate in each time step: of each neuron, darker the deeper it lies, and of all."""
    places = range(1, len(report.step_rates) + 1)
    neurons = [n for n in report.neurons.values() if n.time_steps == len(places)]
    for i, neuron in enumerate(neurons):
        axes.plot(places, neuron.step_rates, color=str(0.9 - 0.6 * i / len(neurons)), linewidth=0.8)
    axes.plot(
        places, report.step_rates, color=COLOURS['spikes'], linewidth=2.5, marker='o', label='mean of all neurons'
    )
    axes.set(title='Firing rate by time step (grey: each neuron, darker deeper)', ylabel='rate', xlabel='time step')
    axes.set_xticks(places)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
