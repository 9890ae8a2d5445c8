"""Draw neuron.png, t_x_d.png, lsq.png, slots.png, break_even.png and cross_terms.png, which explain how things work.

python docs/figures/draw_concepts.py docs/en/images
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from qsdt_mm.analysis.energy import PRESETS
from qsdt_mm.models.neurons.functional import integrate_and_fire_step, spike_count
from qsdt_mm.models.quantization.lsq import LSQ, quant_range
from qsdt_mm.visualization.figures import new_figure, save_figure

BLUE, RED, GREY = '#2166ac', '#b2182b', '#999999'


def tidy(*axes) -> None:
    """Frames on two sides only."""
    for one in axes:
        one.spines[['top', 'right']].set_visible(False)


def draw_neuron(path: Path) -> None:
    """Count and gradient as functions of the membrane; one neuron with soft reset over eight steps."""
    figure = new_figure(9.5, 3.4)
    curve, time = figure.subplots(1, 2, width_ratios=(1, 1.25))
    membrane = torch.linspace(-1.5, 5.5, 1401, requires_grad=True)
    count = spike_count(membrane, threshold=1.0, max_spike_count=4)
    (slope,) = torch.autograd.grad(count.sum(), membrane)
    u = membrane.detach().numpy()
    curve.fill_between(u, 0, 4.4, where=slope.numpy() > 0, color=BLUE, alpha=0.1, lw=0, label='gradient 1, else 0')
    curve.plot(u, count.detach().numpy(), color=BLUE, label='count n')
    curve.plot([0, 4], [0, 4], ':', color=GREY, label='what training sees')
    curve.set(xlabel='membrane u, in thresholds', ylabel='spikes', ylim=(-0.2, 4.4), title='One time step, D = 4')
    curve.legend(frameon=False, fontsize=8, loc='upper left')

    inputs = torch.tensor([0.4, 0.9, 1.8, 2.6, 0.3, 0.0, 5.2, 0.1])
    carried, membranes, counts = None, [], []
    for current in inputs:
        membranes.append(float(current + (0 if carried is None else carried)))
        count, carried = integrate_and_fire_step(current, carried, 1.0, 4)
        counts.append(int(count))
    steps = np.arange(1, len(counts) + 1)
    time.bar(steps - 0.2, inputs.numpy(), 0.36, color=GREY, label='input x')
    time.bar(steps + 0.2, counts, 0.36, color=BLUE, label='count n')
    time.plot(steps, membranes, 'o', color=RED, ms=5, label='membrane u = h + x')
    time.set(
        xlabel='time step', xticks=steps, ylim=(0, 6.6), title='T = 8 steps: what is not fired stays in the membrane'
    )
    time.legend(frameon=False, fontsize=8, ncols=3, loc='upper left')
    tidy(curve, time)
    save_figure(figure, path)


def draw_time_and_counts(path: Path) -> None:
    """Where one neuron may fire at T x D of 1 x 4, 2 x 2 and 4 x 1, for the same input in all."""
    figure = new_figure(8.0, 2.5)
    panels = figure.subplots(1, 3, width_ratios=(2.2, 2.6, 4))
    for axes, (time_steps, max_spike_count) in zip(panels, ((1, 4), (2, 2), (4, 1))):
        carried, slots = None, np.zeros((max_spike_count, time_steps))
        for t in range(time_steps):
            count, carried = integrate_and_fire_step(torch.tensor(2.9 / time_steps), carried, 1.0, max_spike_count)
            slots[: int(count), t] = 1
        axes.pcolormesh(slots, cmap='Blues', vmin=0, vmax=1.3, edgecolors='black', linewidth=1)
        axes.set(
            xlim=(0, time_steps),
            ylim=(0, 4),
            aspect='equal',
            xticks=np.arange(time_steps) + 0.5,
            yticks=np.arange(max_spike_count) + 0.5,
            title=f'T x D = {time_steps} x {max_spike_count}: {int(slots.sum())} spikes',
        )
        axes.set_xticklabels([f't = {t + 1}' for t in range(time_steps)])
        axes.set_yticklabels([f'slot {d + 1}' for d in range(max_spike_count)])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    save_figure(figure, path)


def draw_lsq(path: Path) -> None:
    """Weights of one output channel before and after, at 2, 3 and 4 bits."""
    weights = torch.randn(4000, generator=torch.Generator().manual_seed(0))[None]
    figure = new_figure(9.5, 2.8)
    for axes, bits in zip(figure.subplots(1, 3, sharey=True), (2, 3, 4)):
        quantizer = LSQ(1, bits)
        quantizer.reset_step(weights)
        step = float(quantizer.positive_step.detach())
        low, high = quant_range(bits)
        integers = quantizer.integers(weights)[0].numpy()
        values, numbers = np.unique(integers, return_counts=True)
        axes.hist(weights[0].numpy() / step, bins=np.arange(-12, 12, 0.25), color=GREY, label='weight / step')
        axes.bar(values, numbers, 0.3, color=BLUE, label='integer')
        axes.set(
            title=f'{bits} bits: {low} to {high}, step {step:.2f}', xlabel='in steps', xlim=(low - 2.5, high + 3.5)
        )
        tidy(axes)
        if bits == 2:
            axes.set_ylabel('weights')
            axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def draw_slots(path: Path) -> None:
    """W n, and the same as four sums of selected columns of W."""
    generator = np.random.default_rng(3)
    weights = generator.integers(-8, 8, (3, 6))
    counts = np.array([0, 3, 1, 4, 0, 2])
    figure = new_figure(9.5, 2.0)
    panels = figure.subplots(2, 5, height_ratios=(1, 3), width_ratios=(1, 1, 1, 1, 1))
    for i, (spikes, weighed) in enumerate(zip(panels[0], panels[1])):
        shown = counts if i == 0 else (counts >= i).astype(int)
        used = shown > 0
        spikes.imshow(shown[None], cmap='Blues', vmin=0, vmax=5.2)
        for x, value in enumerate(shown):
            spikes.text(x, 0, value, ha='center', va='center', color='white' if value > 2 else 'black')
        weighed.imshow(np.where(used, weights, 0), cmap='RdBu_r', vmin=-12, vmax=12)
        for (y, x), value in np.ndenumerate(weights):
            weighed.text(x, y, value, ha='center', va='center', fontsize=9, color='black' if used[x] else '#cccccc')
        result = weights @ shown
        spikes.set_title('counts n' if i == 0 else f'slot {i}: n >= {i}', fontsize=10)
        weighed.set_xlabel(('W n = ' if i == 0 else 'sum = ') + '(' + ', '.join(map(str, result)) + ')', fontsize=9)
        for axes in (spikes, weighed):
            axes.set(xticks=[], yticks=[])
    panels[1, 0].set_ylabel('weights W')
    save_figure(figure, path)


def draw_break_even(path: Path) -> None:
    """Energy of one synapse in one time step against the firing rate."""
    figure = new_figure(9.5, 3.2)
    for axes, (name, (mac, ac)) in zip(figure.subplots(1, 3), PRESETS.items()):
        rates = np.linspace(0, 1, 50)
        for max_spike_count, colour in ((1, '#92c5de'), (4, BLUE), (8, '#053061')):
            axes.plot(rates, rates * max_spike_count * ac, color=colour, label=f'spikes, D = {max_spike_count}')
            if ac * max_spike_count > mac:
                axes.plot(mac / (ac * max_spike_count), mac, 'o', color=colour, ms=5)
        axes.axhline(mac, color=RED, ls='--', label='dense: one MAC')
        axes.set(title=f'{name}: MAC {mac} pJ, AC {ac} pJ', xlabel='firing rate', xlim=(0, 1))
        axes.set_ylim(0, 1.7 * mac)
        tidy(axes)
    figure.axes[0].set_ylabel('pJ a synapse and time step')
    figure.axes[0].legend(frameon=False, fontsize=8, loc='upper left')
    save_figure(figure, path)


def draw_cross_terms(path: Path) -> None:
    """Pairs of slots of a key and a value: those of their product, those of equal slots, and when each is added."""
    key, value, slots = 3, 2, 4
    row, column = np.mgrid[1 : slots + 1, 1 : slots + 1]
    fires = (row <= key) & (column <= value)
    parts = {
        f'k v = {key} x {value}: {fires.sum()} pairs': np.where(fires, 1, 0),
        f'slot by slot: {(fires & (row == column)).sum()} pairs': np.where(fires & (row == column), 1, 0),
        'as it runs here: all, slot after slot': np.where(fires, np.maximum(row, column), 0),
    }
    figure = new_figure(8.6, 2.9)
    for axes, (title, shown) in zip(figure.subplots(1, 3), parts.items()):
        axes.imshow(shown, cmap='Blues', vmin=0, vmax=1.6 if shown.max() == 1 else 4.5)
        for (y, x), pair in np.ndenumerate(shown):
            if pair:
                text = f'slot {pair}' if shown.max() > 1 else '1'
                axes.text(x, y, text, ha='center', va='center', fontsize=9, color='white' if pair > 2 else 'black')
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(slots), [f'v {d}' for d in range(1, slots + 1)])
        axes.set_yticks(range(slots), [f'k {d}' for d in range(1, slots + 1)])
        axes.set_xticks(np.arange(slots - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(slots - 1) + 0.5, minor=True)
        axes.grid(which='minor', color='black', lw=0.6)
        axes.tick_params(which='both', length=0)
    save_figure(figure, path)


FIGURES = {
    'neuron': draw_neuron,
    't_x_d': draw_time_and_counts,
    'lsq': draw_lsq,
    'slots': draw_slots,
    'break_even': draw_break_even,
    'cross_terms': draw_cross_terms,
}


def main(folder: str) -> None:
    """Draw all of them."""
    for name, draw in FIGURES.items():
        draw(Path(folder) / f'{name}.png')


if __name__ == '__main__':
    main(*sys.argv[1:])
