"""Pictures of events and of frames made of them: brighter red, darker blue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from qsdt_mm.fileio.atomic import atomic_open

from .figures import new_figure, save_figure

GAP = 2  # pixels between frames of a contact sheet
HEIGHT = 200  # of a contact sheet, at least, so that what is written on it can be read
MOST_POINTS = 20_000  # in a figure
VIDEO_SIDE = 320  # of a video, in pixels, at least


def event_picture(frame: np.ndarray, most: float | None = None) -> np.ndarray:
    """Draw counts of events as a picture on white: brighter red, darker blue, both grey.

    Args:
        frame: ``(2, H, W)``, darker and brighter.
        most: the count that has the full colour; None: the largest.

    Returns:
        ``(H, W, 3)``, 0 to 1.
    """
    # The root, so that single events are seen beside many.
    dark, bright = np.sqrt(np.clip(frame / max(frame.max() if most is None else most, 1e-9), 0, 1))
    return np.stack([1 - 0.87 * dark, 1 - 0.9 * np.maximum(dark, bright), 1 - 0.83 * bright], -1).clip(0, 1)


def contact_sheet(frames: torch.Tensor) -> torch.Tensor:
    """Draw frames ``(T, 2, H, W)`` as one picture, ``(3, H', W')``, 0 to 255: one scale for all, small magnified."""
    frames = frames.cpu().float()
    most = frames.max().item()
    pictures = [torch.from_numpy(event_picture(frame.numpy(), most)).permute(2, 0, 1) for frame in frames]
    times = -(-HEIGHT // frames.shape[2])
    pictures = [picture.repeat_interleave(times, 1).repeat_interleave(times, 2) for picture in pictures]
    gap = torch.zeros(3, pictures[0].shape[1], GAP)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return (torch.cat(parts, dim=2) * 255).round()


def draw_events(events: Any, frames: np.ndarray, path: Path) -> None:
    """Write a figure of events in time and space, and of the frames made of them.

    Args:
        events: an ``Events``, or None where frames are all there is.
        frames: ``(T, 2, H, W)``.
        path: of the PNG file.
    """
    columns = min(len(frames), 8)
    rows = -(-len(frames) // columns)
    figure = new_figure(1.6 * columns + 2, 1.7 * rows + (4 if events else 0.5))
    upper, lower = figure.subfigures(2, 1, height_ratios=(3.5, 1.7 * rows)) if events else (None, figure)
    if events:
        step = -(-len(events.t) // MOST_POINTS)
        shown = [values[::step] for values in events]
        colours = ['#b2182b' if p else '#2166ac' for p in shown[3]]
        height, width = frames.shape[-2:]
        for axes, values, what, side in zip(upper.subplots(1, 2), shown[1:3], ('column x', 'row y'), (width, height)):
            axes.scatter(shown[0], values, s=2, c=colours, linewidths=0)
            axes.set(xlabel='time t', ylabel=what, ylim=(-0.5, side - 0.5))
            axes.spines[['top', 'right']].set_visible(False)
        upper.suptitle(f'{len(events.t):,} events' + (f', one in {step} drawn' if step > 1 else ''), fontsize=10)
    most = frames.max()
    for i, axes in enumerate(lower.subplots(rows, columns, squeeze=False).flat):
        axes.set(xticks=[], yticks=[])
        axes.set_visible(i < len(frames))
        if i < len(frames):
            axes.imshow(event_picture(frames[i], most), interpolation='nearest')
            axes.set_title(f'{i + 1}: {frames[i].sum():,.0f}', fontsize=8)
    save_figure(figure, path)


def write_video(frames: np.ndarray, fps: float, path: Path) -> None:
    """Write frames ``(T, 2, H, W)`` one after the other as a GIF file, so many a second."""
    from PIL import Image

    height, width = frames.shape[-2:]
    scale = max(1, -(-VIDEO_SIDE // max(height, width)))
    pictures = [
        Image.fromarray((event_picture(frame, frames.max()) * 255).astype('uint8')).resize(
            (width * scale, height * scale), Image.Resampling.NEAREST
        )
        for frame in frames
    ]
    with atomic_open(path) as file:
        pictures[0].save(
            file, format='GIF', save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0
        )
