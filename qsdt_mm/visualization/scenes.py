"""Images beside what is in them and what a segmenter or detector finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .classes import shortened
from .figures import new_figure
from .predictions import to_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORE = 0.3
"""Lowest score of a box that is drawn and counted."""
OVERLAP = 0.5
"""Intersection over union from which on a box is found."""
MOST_NAMED = 25  # classes in a legend
NO_CLASS = (0.5, 0.5, 0.5)


@dataclass
class Scene:
    """An image with its truth and a prediction, both in the pixels of the file.

    Args:
        image: ``(C, H', W')`` as the network's preprocessor takes it, scaled and perhaps padded to the right and below.
        size: height and width of the file's image.
        scale: factors by which width and height of ``image`` were scaled.
        mistakes: share of pixels that are wrong, or number of boxes that are missed or too many.
        truth, found: label maps ``(H, W)``, or boxes and labels ``(N, 4), (N,)``.
        scores: of the boxes found.

    >>> image, labels = torch.zeros(3, 8, 8), torch.zeros(4, 4)
    >>> Scene(image, (4, 4), (2.0, 2.0), 0.0, labels, labels).scores is None
    True
    """

    image: Tensor
    size: tuple[int, int]
    scale: tuple[float, float]
    mistakes: float
    truth: Any
    found: Any
    scores: Tensor | None = None


def scene_of(image: Tensor, sample: Any, ignored: int | None = None) -> Scene | None:
    """Return the scene of a segmenter's or detector's sample; None of another, and of one without its truth.

    Args:
        image: as it was loaded.
        sample: prediction and truth.
        ignored: a label of the truth that does not count.
    """
    height, width = (sample.get('ori_shape') or image.shape[-2:])[:2]
    frame = dict(image=image.cpu(), size=(height, width), scale=tuple(sample.get('scale_factor') or (1.0, 1.0))[:2])
    if 'pred_sem_seg' in sample and 'gt_sem_seg' in sample:
        truth, found = (each.data.squeeze(0).cpu() for each in (sample.gt_sem_seg, sample.pred_sem_seg))
        if truth.shape != found.shape:
            return None
        counted = (truth != (255 if ignored is None else ignored)) & (truth != 255)
        wrong = ((truth != found) & counted).sum() / counted.sum().clamp_min(1)
        return Scene(mistakes=float(wrong), truth=truth, found=found, **frame)
    if 'pred_instances' in sample and 'gt_instances' in sample:
        given, found = sample.gt_instances, sample.pred_instances
        if not all('bboxes' in each and 'labels' in each for each in (given, found)) or 'scores' not in found:
            return None
        scores = torch.as_tensor(found.scores).cpu()
        truth, boxes, kept = _boxes(given), _boxes(found), scores >= SCORE
        boxes = tuple(each[kept] for each in boxes)
        return Scene(mistakes=mistakes_of(truth, boxes), truth=truth, found=boxes, scores=scores[kept], **frame)
    return None


def _boxes(instances: Any) -> tuple[Tensor, Tensor]:
    boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)
    return torch.as_tensor(boxes).float().cpu().reshape(-1, 4), torch.as_tensor(instances.labels).cpu()


def mistakes_of(truth: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor]) -> int:
    """Return how many objects are missed, plus how many boxes found are none of them.

    A box is an object's if it has its class and their intersection is at least half of their union; each object has
    one box at most.

    Args:
        truth, found: boxes ``(N, 4)`` and labels ``(N,)``; those found in the order in which they may choose.
    """
    from torchvision.ops import box_iou

    overlaps = box_iou(found[0], truth[0]) * (found[1][:, None] == truth[1])
    hits = 0
    for row in range(len(overlaps)):
        if overlaps.shape[1] and overlaps[row].max() >= OVERLAP:
            overlaps[:, overlaps[row].argmax()] = 0
            hits += 1
    return len(truth[0]) + len(found[0]) - 2 * hits


def draw_scenes(scenes: Sequence[Scene], count: int, meta: Mapping[str, Any], reverse: bool = False) -> Figure:
    """Draw images, what is in them, and what the network says, a row for each.

    Args:
        scenes: one or more, all of segmentation or all of detection.
        count: of how many they are the worst.
        meta: of the data set: names and colours of the classes.
        reverse: the channels of images are BGR.
    """
    of_boxes = scenes[0].scores is not None
    titles = ('truth', f'found, scores above {SCORE}') if of_boxes else ('image', 'truth', 'the network says')
    names = [str(name) for name in meta.get('classes') or ()]
    colours = colours_of(meta, len(names))
    figure = new_figure(2.8 * len(titles) + 1.6, 2.6 * len(scenes) + 0.6)
    grid = figure.subplots(len(scenes), len(titles), squeeze=False)
    for scene, row in zip(scenes, grid):
        picture = to_picture(scene.image, reverse)
        height, width = scene.size
        extent = (0, picture.shape[1] / scene.scale[0], picture.shape[0] / scene.scale[1], 0)
        for axes, kind in zip(row, titles):
            axes.set(xticks=[], yticks=[])
            if of_boxes or kind == 'image':
                axes.imshow(picture, extent=extent, cmap='gray')
            else:
                labels = (scene.truth if kind == 'truth' else scene.found).long()
                known = (labels >= 0) & (labels < len(colours))
                pixels = colours[labels.clamp(0, len(colours) - 1)]
                shown = torch.where(known[..., None], pixels, torch.tensor(NO_CLASS))
                axes.imshow(shown.numpy(), extent=(0, width, height, 0), interpolation='nearest')
            axes.set(xlim=(0, width), ylim=(height, 0))
        if of_boxes:
            _draw_boxes(row[0], *scene.truth, None, names, colours)
            _draw_boxes(row[1], *scene.found, scene.scores, names, colours)
        plural = '' if scene.mistakes == 1 else 's'
        words = f'{scene.mistakes:.0f} mistake{plural}' if of_boxes else f'{100 * scene.mistakes:.1f} % wrong'
        row[0].set_ylabel(words, fontsize=8)
    for axes, title in zip(grid[0], titles):
        axes.set_title(title, fontsize=9)
    if 0 < len(names) <= MOST_NAMED:
        handles = [
            figure.axes[0].plot([], [], 's', color=tuple(colour.tolist()), label=shortened(name))[0]
            for name, colour in zip(names, colours)
        ]
        figure.legend(handles=handles, loc='outside right upper', frameon=False, fontsize=8)
    figure.suptitle(f'The worst {len(scenes)} of {count:,} images' if count > 1 else 'One image')
    return figure


def colours_of(meta: Mapping[str, Any], classes: int) -> Tensor:
    """Return a colour for each class, ``(classes, 3)`` from 0 to 1: the data set's, or else hues; at least one."""
    palette = meta.get('palette')
    try:
        colours = torch.tensor(np.asarray(palette, dtype=float) / 255).float()
        if colours.ndim == 2 and colours.shape[1] == 3 and len(colours) >= max(classes, 1):
            return colours.clamp(0, 1)
    except (TypeError, ValueError):
        pass
    import matplotlib

    hues = matplotlib.colormaps['turbo'](np.linspace(0.05, 0.95, max(classes, 1)))
    return torch.tensor(hues[:, :3]).float()


def _draw_boxes(
    axes: Axes, boxes: Tensor, labels: Tensor, scores: Tensor | None, names: Sequence[str], colours: Tensor
) -> None:
    from matplotlib.patches import Rectangle

    for i, ((left, top, right, bottom), label) in enumerate(zip(boxes.tolist(), labels.tolist())):
        colour = tuple(colours[label].tolist()) if 0 <= label < len(colours) else NO_CLASS
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.5))
        name = shortened(names[label]) if 0 <= label < len(names) else str(label)
        if scores is not None:
            text = axes.text(left, top, f'{name} {scores[i]:.2f}', fontsize=6, color='white', va='bottom', clip_on=True)
            text.set_bbox(dict(facecolor=colour, alpha=0.7, pad=1, edgecolor='none'))
