"""Maps of firing rates over an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .figures import new_figure, save_figure


def draw_firing(image: np.ndarray, rates: Mapping[int, Sequence[np.ndarray]], path: Path) -> None:
    """Write a figure of an image and of the mean firing rate of each stage's neurons over it.

    Args:
        image: ``(H, W, 3)``, RGB.
        rates: by stage, the neurons' maps of firing rates, ``(H_i, W_i)``; means are of the largest ones.
        path: of the PNG file.
    """
    figure = new_figure(3 * (len(rates) + 1), 3.2)
    axes = figure.subplots(1, len(rates) + 1)
    axes[0].imshow(image)
    axes[0].set_title('image', fontsize=10)
    for place, (stage, maps) in zip(axes[1:], sorted(rates.items())):
        height, width = max(m.shape for m in maps)
        rate = sum(m for m in maps if m.shape == (height, width)) / sum(m.shape == (height, width) for m in maps)
        shown = place.imshow(rate, cmap='magma', vmin=0)
        place.set_title(f'stage {stage}, {height} x {width}: rate {rate.mean():.3f}', fontsize=10)
        figure.colorbar(shown, ax=place, fraction=0.046)
    for place in axes:
        place.axis('off')
    save_figure(figure, path)
