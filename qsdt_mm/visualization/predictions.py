"""Pictures of predictions."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .events import event_picture
from .figures import literal, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG = '#1b7837', '#c51b1b'


def to_picture(image: torch.Tensor, reverse: bool = False) -> np.ndarray:
    """Return an image tensor as matplotlib shows it: ``(C, H, W)`` to ``(H, W)`` or ``(H, W, 3)``, from 0 to 1.

    Args:
        image: uint8, or any range of values, which is then stretched; or frames of events ``(T, 2, H, W)``, which are
            drawn as one.
        reverse: the channels are BGR.
    """
    if image.dim() == 4:
        return event_picture(image.float().sum(0).numpy())
    values = image.float()
    if image.dtype == torch.uint8:
        values = values / 255
    else:
        values = (values - values.min()) / (values.max() - values.min()).clamp_min(1e-9)
    values = values[:3] if len(values) >= 3 else values[:1]
    values = values.flip(0) if reverse and len(values) == 3 else values
    return values.permute(1, 2, 0).squeeze(-1).numpy()


def draw_prediction_grid(
    shown: Sequence[tuple[torch.Tensor, int, int, float]],
    columns: int,
    right: int,
    count: int,
    classes: Sequence[str] | None = None,
    reverse: bool = False,
) -> Figure:
    """Draw images with the class that was predicted for each.

    Args:
        shown: image, true class, predicted class and its score.
        columns: of the grid.
        right: how many predictions are right, of ``count``.
        count: how many there are, drawn or not.
        classes: names of the classes.
        reverse: the channels of images are BGR.
    """
    rows = math.ceil(len(shown) / columns)
    figure = new_figure(1.15 * columns, 1.4 * rows + 0.5)
    figure.suptitle(f'{right} of {count} right ({100 * right / count:.1f} %)')
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis('off')
    for axes, (image, truth, label, score) in zip(figure.axes, shown):
        axes.imshow(to_picture(image, reverse), cmap='gray')
        # A network may tell apart more classes than the data have names for.
        names = [str(classes[i]) if classes and i < len(classes) else str(i) for i in (label, truth)]
        says, sure = ('', f'{100 * score:.0f} %') if label == truth else ('said ', f'({100 * score:.0f} %)')
        text = f'{says}{names[0]} {sure}' + ('' if label == truth else f',\nis {names[1]}')
        axes.set_title(literal(text), fontsize=8, color=RIGHT if label == truth else WRONG, pad=2)
    return figure


def draw_found(cfg: Any, sample: Any, image: np.ndarray, meta: Mapping[str, Any], path: Path, score_thr: float) -> None:
    """Write a picture of a prediction, drawn by the library's own visualizer.

    Args:
        cfg: the configuration, which names library and visualizer.
        sample: the prediction.
        image: ``(H, W, 3)``, RGB.
        meta: names and colours of the classes.
        path: of the PNG file.
        score_thr: lowest score of a detection that is drawn.
    """
    from mmengine.registry import VISUALIZERS

    visualizer = VISUALIZERS.build(dict(cfg.visualizer, vis_backends=None, name='image_demo'))
    if cfg.default_scope == 'mmpretrain':
        visualizer.visualize_cls(
            image,
            sample,
            classes=meta.get('classes'),
            draw_gt=False,
            resize=256 if max(image.shape[:2]) < 256 else None,
            out_file=str(path),
        )
        return
    visualizer.dataset_meta = dict(meta)
    if cfg.default_scope == 'mmseg':  # it has colours only for the data sets it knows
        hues = [index / len(meta['classes']) for index in range(len(meta['classes']))] if meta else []
        colours = [tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.9, 0.9)) for hue in hues]
        visualizer.dataset_meta.setdefault('palette', colours)
    extra = dict(pred_score_thr=score_thr) if cfg.default_scope == 'mmdet' else {}
    visualizer.add_datasample('found', image, sample.cpu(), draw_gt=False, out_file=str(path), **extra)
