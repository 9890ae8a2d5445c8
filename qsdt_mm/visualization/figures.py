"""Figures without a display, written as files that are either whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qsdt_mm.fileio.atomic import atomic_open

if TYPE_CHECKING:
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


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG file that is either whole or not there."""
    with atomic_open(path) as file:
        figure.savefig(file, format='png', dpi=DPI)
