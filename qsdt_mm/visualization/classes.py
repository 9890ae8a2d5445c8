"""Confusion matrices, and a bar for each class."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qsdt_mm.analysis.class_results import ClassResults

from .figures import literal, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_IN_MATRIX = 30  # classes; of more a list of pairs is drawn
MOST_NUMBERED = 15  # classes whose cells hold numbers
MOST_IN_LIST = 20
LONGEST = 20  # letters of a name
RIGHT, WRONG = '0.55', '#c51b1b'


def shortened(name: str) -> str:
    """Return a name as it may stand in a figure: some letters, all of them printed as they are.

    >>> shortened('a very long name of a class'), shortened('$5')
    ('a very long name of…', '\\\\$5')
    """
    name = ''.join(letter if letter.isprintable() else ' ' for letter in name)
    return literal(name if len(name) <= LONGEST else f'{name[: LONGEST - 1]}…')


def draw_classes(results: ClassResults, path: Path) -> None:
    """Write a figure of results by class.

    With a matrix of at most 30 classes that is drawn, mistakes in red, and a bar for each class beside it; of more,
    the 20 commonest mistakes and the 20 worst classes; without a matrix a bar for each class, or the worst.

    Args:
        results: at least one class.
        path: of the PNG file.
    """
    total = sum(results.counts)
    if results.matrix is None:
        order = results.worst(MOST_IN_LIST) if len(results.names) > MOST_IN_MATRIX else range(len(results.names))
        figure = new_figure(7, 1.4 + 0.3 * len(order))
        _bars(figure.subplots(), results, list(order))
        worst = 'the worst classes: ' if len(order) < len(results.names) else ''
        title = f'{worst}{results.score} by class'
    elif len(results.names) > MOST_IN_MATRIX:
        figure = _lists(results)
        title = 'the commonest mistakes, and the worst classes'
    else:
        figure = _matrix(results)
        hits = sum(results.matrix[i][i] for i in range(len(results.names)))
        title = f'{hits:,} of {total:,} {results.things} right ({100 * hits / max(total, 1):.1f} %)'
    figure.suptitle(f'{results.when}: {title}' if results.when else title, fontsize=11)
    save_figure(figure, Path(path))


def _matrix(results: ClassResults) -> Figure:
    count = len(results.names)
    side = max(3.0, 0.42 * count)
    figure = new_figure(side + 4.6, side + 1.3)
    grid, bars = figure.subplots(1, 2, width_ratios=(side, 3.2))
    matrix = np.array(results.matrix, dtype=float)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    colours = np.ones((count, count, 3))
    off = ~np.eye(count, dtype=bool)
    depth = np.sqrt(share / max(share[off].max(initial=0.0), 1e-9))[..., None]  # the root, so that single ones are seen
    colours[off] = (1 - depth * (1 - np.array([0.77, 0.11, 0.11])))[off]
    colours[~off] = (1 - 0.35 * share[~off])[:, None]
    grid.imshow(colours, aspect='auto')  # rows as high as the bars beside them
    if count <= MOST_NUMBERED:
        for i, j in np.argwhere(matrix > 0):
            text = f'{matrix[i, j]:.0f}' if results.things == 'images' else f'{100 * share[i, j]:.1f}'
            white = i != j and depth[i, j, 0] > 0.6
            grid.text(j, i, text, ha='center', va='center', fontsize=8, color='white' if white else 'black')
    names = [shortened(name) for name in results.names]
    upright = max(map(len, names)) <= 2
    grid.set_xticks(range(count), names, rotation=0 if upright else 90, fontsize=8)
    grid.set_yticks(range(count), names, fontsize=8)
    of_row = ', % of each row' if results.things == 'pixels' and count <= MOST_NUMBERED else ''
    grid.set(xlabel=f'the network says{of_row}', ylabel='it is')
    grid.tick_params(length=0)
    grid.spines[:].set_visible(False)
    _bars(bars, results, list(range(count)), named=False)
    bars.set_ylim(grid.get_ylim())
    return figure


def _lists(results: ClassResults) -> Figure:
    pairs, worst = results.pairs(MOST_IN_LIST), results.worst(MOST_IN_LIST)
    figure = new_figure(13, 1.4 + 0.3 * max(len(pairs), len(worst), 1))
    left, right = figure.subplots(1, 2)
    left.barh(range(len(pairs)), [count for *_, count in pairs], color=WRONG)
    labels = [f'{shortened(results.names[i])}, says {shortened(results.names[j])}' for i, j, _ in pairs]
    left.set_yticks(range(len(pairs)), labels, fontsize=8)
    for place, (i, _, count) in enumerate(pairs):
        left.text(count, place, f' {count:,} of {results.counts[i]:,}', va='center', fontsize=8)
    left.set(xlabel=results.things, title='it is …, the network says …')
    left.margins(x=0.2)
    left.invert_yaxis()
    left.spines[['top', 'right']].set_visible(False)
    _bars(right, results, worst)
    return figure


def _bars(axes: Axes, results: ClassResults, order: list[int], named: bool = True) -> None:
    """Draw a bar for each class, with its score and its count."""
    scores = [results.scores[i] if math.isfinite(results.scores[i]) else 0.0 for i in order]
    axes.barh(range(len(order)), scores, color=RIGHT)
    if results.score == 'right':  # what is missing is mistakes
        axes.barh(
            range(len(order)),
            [1 - s if results.counts[i] else 0 for s, i in zip(scores, order)],
            left=scores,
            color=WRONG,
        )
    for place, i in enumerate(order):
        count = f'{results.counts[i]:,}' if results.counts[i] < 1e6 else f'{results.counts[i] / 1e6:.1f} M'
        axes.text(1.02, place, f'{results.shown(i)} of {count}', va='center', fontsize=8)
    axes.set_yticks(range(len(order)), [shortened(results.names[i]) for i in order] if named else [], fontsize=8)
    axes.set(xlim=(0, 1), ylim=(len(order) - 0.5, -0.5), xlabel=f'{results.score}, and how many {results.things}')
    axes.tick_params(axis='y', length=0)
    axes.spines[['top', 'right', 'bottom']].set_visible(False)
