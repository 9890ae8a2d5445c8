"""Draw coding.png and per_slot_attention.png of docs/en/spike_driven_inference.md: what slots carry, and how they meet.

python docs/figures/draw_slots.py docs/en/images
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.patches import FancyArrowPatch, Rectangle

from qsdt_mm.inference.slots import number_of_spikes, slots, worths
from qsdt_mm.visualization.figures import new_figure, save_figure

BLUE, RED, GREEN, PALE, GREY = '#2166ac', '#b2182b', '#1b7837', '#eeeeee', '#666666'


def box(axes, x: float, y: float, text: object, colour: str = BLUE, fires: bool = True, width: float = 0.86) -> None:
    """Draw a slot or a sum, filled if it fires."""
    axes.add_patch(Rectangle((x - width / 2, y - 0.4), width, 0.8, facecolor=colour if fires else PALE))
    axes.text(x, y, text, ha='center', va='center', fontsize=9, color='white' if fires else GREY)


def arrow(axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle='-|>', mutation_scale=8, color=GREY, lw=0.8))


def bare(axes, left: float, right: float, top: float, bottom: float) -> None:
    """Boxes alone, rows downwards."""
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()


def draw_coding(path: Path, most: int = 7) -> None:
    """Counts 0 to D in unary slots and in bits."""
    counts = torch.arange(most + 1)
    figure = new_figure(8.5, 3.9)
    panels = figure.subplots(1, 2, width_ratios=(most + 2.6, len(worths(most, 'bitwise')) + 2.6))
    for axes, coding, colour in zip(panels, ('unary', 'bitwise'), (BLUE, GREEN)):
        sent, worth = list(slots(counts, most, coding)), worths(most, coding)
        spikes = number_of_spikes(counts, most, coding)
        for x, (fired, each) in enumerate(zip(sent, worth)):
            axes.text(x, -1, f'x {each}', ha='center', va='center', fontsize=10, color=colour)
            for y in counts.tolist():
                box(axes, x, y, int(fired[y]), colour, bool(fired[y]))
        axes.text(-1.2, -1, 'count', ha='center', va='center', fontsize=9)
        axes.text(len(worth) + 0.3, -1, 'spikes', ha='center', va='center', fontsize=9)
        for y in counts.tolist():
            axes.text(-1.2, y, y, ha='center', va='center', fontsize=10)
            axes.text(len(worth) + 0.3, y, int(spikes[y]), ha='center', va='center', fontsize=10, color=colour)
        axes.set_title(f'{coding}: {len(worth)} slots for D = {most}', fontsize=11)
        bare(axes, -1.8, len(worth) + 0.9, -1.6, most + 0.5)
    save_figure(figure, path)


def draw_attention(path: Path, counts: tuple[int, int, int] = (2, 3, 2), most: int = 4) -> None:
    """One query, key and value: sums of slots that meet, and slots that meet slot by slot."""
    query, key, value = (list(slots(torch.tensor(count), most)) for count in counts)
    figure = new_figure(10.5, 3.9)
    for axes, own in zip(figure.subplots(1, 2, width_ratios=(1, 1.18)), (False, True)):
        for x, (name, count, sent) in enumerate(zip('qkv', counts, (query, key, value))):
            axes.text(x, -0.95, f'{name} = {count}', ha='center', va='center', fontsize=10)
            for y, fired in enumerate(sent):
                box(axes, x, y, int(fired), BLUE, bool(fired))
            if not own:
                arrow(axes, (x, most - 0.55), (x, most + 0.3))
                box(axes, x, most + 0.75, f'sum {count}', RED)
        for y in range(most):
            axes.text(-0.65, y, f'slot {y + 1}', ha='right', va='center', fontsize=9)
        if own:
            products = [int(q * k * v) for q, k, v in zip(query, key, value)]
            for y, product in enumerate(products):
                arrow(axes, (2.5, y), (3.2, y))
                box(axes, 4.0, y, f'q{y + 1} k{y + 1} v{y + 1} = {product}', GREEN, bool(product), 1.6)
                arrow(axes, (4.85, y), (5.6, 1.5 + 0.12 * (y - 1.5)))
            box(axes, 6.1, 1.5, f'sum {sum(products)}', RED, width=0.95)
            axes.set_title("'per_slot': each slot has its own product", fontsize=11)
            bare(axes, -1.8, 6.7, -1.5, most + 1.3)
        else:
            arrow(axes, (2.5, most + 0.75), (3.0, most + 0.75))
            product = counts[0] * counts[1] * counts[2]
            box(axes, 4.0, most + 0.75, f'{counts[0]} x {counts[1]} x {counts[2]} = {product}', GREEN, width=1.9)
            axes.set_title("'summed': slots are added up, all meet all", fontsize=11)
            bare(axes, -1.8, 5.2, -1.5, most + 1.3)
    save_figure(figure, path)


FIGURES = {'coding': draw_coding, 'per_slot_attention': draw_attention}


def main(folder: str) -> None:
    """Draw both."""
    for name, draw in FIGURES.items():
        draw(Path(folder) / f'{name}.png')


if __name__ == '__main__':
    main(*sys.argv[1:])
