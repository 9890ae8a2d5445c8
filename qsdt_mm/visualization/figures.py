"""Figures without a display, written as files that are either whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qsdt_mm.fileio.atomic import atomic_open

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn without a display and without touching pyplot's state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG file that is either whole or not there."""
    with atomic_open(path) as file:
        figure.savefig(file, format='png', dpi=150)


def event_picture(frame: np.ndarray, most: float | None = None) -> np.ndarray:
    """Counts of events as a picture on white: brighter red, darker blue, both grey.

    Args:
        frame: ``(2, H, W)``, darker and brighter.
        most: the count that has the full colour; None: the largest.

    Returns:
        ``(H, W, 3)``, 0 to 1.
    """
    # The root, so that single events are seen beside many.
    dark, bright = np.sqrt(np.clip(frame / max(frame.max() if most is None else most, 1e-9), 0, 1))
    return np.stack([1 - 0.87 * dark, 1 - 0.9 * np.maximum(dark, bright), 1 - 0.83 * bright], -1).clip(0, 1)
