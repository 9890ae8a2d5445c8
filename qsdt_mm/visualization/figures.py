"""Figures without a display, written as files that are either whole or not there."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from qsdt_mm.fileio.atomic import atomic_open

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
LAYOUT = 'constrained'


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches, drawn without a display and without touching pyplot's state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=LAYOUT)
    FigureCanvasAgg(figure)
    return figure


def whole_epochs(axes: Axes, unit: str) -> None:
    """Put ticks of a time axis at whole epochs, if it counts them."""
    if unit == 'epoch':
        axes.xaxis.get_major_locator().set_params(integer=True)


def literal(text: str) -> str:
    """Return a text that matplotlib draws letter by letter; between two dollars it would read a formula.

    >>> print(literal('from $5 to $9'))
    from \\$5 to \\$9
    """
    return text.replace('$', r'\$')


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG file that is either whole or not there; letters that the font lacks are drawn as boxes."""
    with atomic_open(path) as file, warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph .* missing from')
        figure.savefig(file, format='png', dpi=DPI)
