"""Figures of firing and energy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qsdt_mm.analysis.energy import EnergyReport
from qsdt_mm.analysis.energy_table import HOROWITZ, EnergyTable
from qsdt_mm.analysis.traffic import Tally

from .figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {'spikes': '#2166ac', 'image': '#b2182b', 'membrane': '#ef8a62', 'floats': '#4d4d4d'}


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
    """Draw firing rate and energy by layer, the counts of each neuron, and with T > 1 firing rates by time step.

    Args:
        report: what is drawn.
        path: the PNG file to write.
        memory: by dataflow and form, what the energy with memory is drawn of.
        table: its energies.
    """
    rows, neurons = report.layers, report.neurons
    in_time = len(report.step_rates) > 1
    panels = 3 + in_time + bool(memory)
    figure = new_figure(max(10, 0.16 * len(rows)), 0.5 + 3.5 * panels)
    rates, energies, counts, *others = figure.subplots(panels, 1)
    over_time, last = others[:in_time], others[in_time:]
    places = range(len(rows))

    for place, row in zip(places, rows):
        if row.rate is not None:
            rates.bar(place, row.rate, color=COLOURS['spikes'])
    rates.set(title=f'Firing rate before each layer (mean of all neurons {report.rate:.3f})', ylabel='rate')

    for driven_by, colour in COLOURS.items():
        chosen = [place for place, row in zip(places, rows) if row.driven_by == driven_by]
        if chosen:
            energies.bar(chosen, [rows[i].energy * 1e-6 for i in chosen], color=colour, label=f'driven by {driven_by}')
    energies.plot(places, [row.dense_energy * 1e-6 for row in rows], '_', color='black', label='dense network')
    energies.set(
        title=f'Energy by layer: {report.energy_mj:.4g} mJ in all, dense network {report.dense_energy_mj:.4g} mJ '
        f'({report.preset})',
        ylabel='µJ per image',
        yscale='log',
    )
    energies.set_ylim(top=10 * energies.get_ylim()[1])  # room for the legend
    energies.legend(frameon=False, ncols=4, loc='upper right')

    max_spike_count = max(n.max_spike_count for n in neurons.values())
    below = [0.0] * len(neurons)
    for count in range(max_spike_count + 1):
        heights = [n.count_distribution[count] if count <= n.max_spike_count else 0.0 for n in neurons.values()]
        shade = str(0.92 - 0.9 * count / max_spike_count)
        counts.bar(range(len(neurons)), heights, bottom=below, color=shade, width=1.0, label=str(count))
        below = [a + b for a, b in zip(below, heights)]
    counts.set(title='Share of each count, by neuron', ylabel='share', ylim=(0, 1))
    counts.legend(title='count', loc='upper left', bbox_to_anchor=(1, 1), frameon=False)
    if in_time:
        plot_time_steps(report, *over_time)
    if memory:
        plot_memory(memory, table, *last)
    mark_parts(rates, [row.name for row in rows])
    mark_parts(energies, [row.name for row in rows])
    mark_parts(counts, list(neurons))
    for axes in (rates, energies, counts, *others):
        axes.spines[['top', 'right']].set_visible(False)
    save_figure(figure, Path(path))


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
