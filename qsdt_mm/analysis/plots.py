"""Figures of firing and energy."""

from __future__ import annotations

from pathlib import Path

from qsdt_mm.engine.figures import new_figure, save_figure

from .energy import EnergyReport

COLOURS = {'spikes': '#2166ac', 'image': '#b2182b', 'membrane': '#ef8a62'}


def plot_energy(report: EnergyReport, path: Path) -> None:
    """Draw firing rate and energy by layer, and the counts of each neuron.

    Args:
        report: the figures.
        path: the PNG file to write.
    """
    rows, neurons = report.layers, report.neurons
    figure = new_figure(max(10, 0.16 * len(rows)), 11)
    rates, energies, counts = figure.subplots(3, 1)
    places = range(len(rows))

    for place, row in zip(places, rows):
        if row.rate is not None:
            rates.bar(place, row.rate, color=COLOURS['spikes'])
    rates.set(title=f'Firing rate before each layer (mean of all neurons {report.rate:.3f})', ylabel='rate')

    for driven_by, colour in COLOURS.items():
        chosen = [place for place, row in zip(places, rows) if row.driven_by == driven_by]
        energies.bar(chosen, [rows[i].energy * 1e-6 for i in chosen], color=colour, label=f'driven by {driven_by}')
    energies.plot(places, [row.dense_energy * 1e-6 for row in rows], '_', color='black', label='dense network')
    energies.set(
        title=f'Energy by layer: {report.energy_mj:.4g} mJ in all, dense network {report.dense_energy_mj:.4g} mJ '
        f'({report.preset})',
        ylabel='µJ per image',
        yscale='log',
        xlabel='layer',
    )
    energies.legend(frameon=False, ncols=4)

    levels = max(n.levels for n in neurons.values())
    below = [0.0] * len(neurons)
    for count in range(levels + 1):
        shares = [n.shares[count] if count <= n.levels else 0.0 for n in neurons.values()]
        shade = str(0.92 - 0.9 * count / levels)
        counts.bar(range(len(neurons)), shares, bottom=below, color=shade, width=1.0, label=str(count))
        below = [a + b for a, b in zip(below, shares)]
    counts.set(title='Share of each count', ylabel='share', xlabel='neuron', ylim=(0, 1))
    counts.legend(title='count', loc='upper left', bbox_to_anchor=(1, 1), frameon=False)
    for axes in (rates, energies, counts):
        axes.margins(x=0.01)
        axes.spines[['top', 'right']].set_visible(False)
    save_figure(figure, Path(path))
