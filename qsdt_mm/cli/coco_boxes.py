"""Meaning of the boxes of a COCO file: left, top, width, height in pixels, or other numbers.

Nobody can tell from one box. Over a file it can be told: by the outlines where there are any, by how many boxes leave
their image, and by how many are left when those without extent are taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qsdt_mm.errors import InputError

from .coco_structure import Annotations

EXPECTED = 'expected [left, top, width, height] in pixels'
SAMPLE = 2000  # outlines that are compared with their boxes
MOST, FIFTH, LEAST = 0.95, 0.2, 0.01  # shares of the boxes of a file
ROUNDING, AGREES = 0.1, 0.7  # px; intersection over union


def _as_corners(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return boxes


def _as_sizes(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def _as_centres(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])


READINGS = {
    'left, top, width, height': _as_sizes,
    'corners (left, top, right, bottom)': _as_corners,
    'centre, width, height': _as_centres,
    'fractions of the image': lambda boxes, sizes: _as_sizes(boxes * np.tile(sizes, 2), sizes),
    'fractions of the image, by their centres': lambda boxes, sizes: _as_centres(boxes * np.tile(sizes, 2), sizes),
    'per cent of the image': lambda boxes, sizes: _as_sizes(boxes * np.tile(sizes, 2) / 100, sizes),
    'top, left, height, width': lambda boxes, sizes: _as_sizes(boxes[:, [1, 0, 3, 2]], sizes),
}
"""Readings of four numbers, as left, top, right and bottom in pixels; the first is COCO's."""
SIZES, CORNERS, CENTRES = [*READINGS][:3]


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of pairs of boxes, (N, 4) px as left, top, right, bottom."""
    inner = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(1)
    areas = [np.clip(c[:, 2:] - c[:, :2], 0, None).prod(1) for c in (a, b)]
    return inner / np.maximum(areas[0] + areas[1] - inner, 1e-9)


def extents(outlines: Sequence[list]) -> np.ndarray:
    """Return left, top, right and bottom of each outline, (N, 4) px."""
    even = ([value for part in shape for value in part[: len(part) // 2 * 2]] for shape in outlines)
    points = [np.array(values).reshape(-1, 2) for values in even]
    return np.array([[*xy.min(0), *xy.max(0)] for xy in points], float).reshape(-1, 4)


def reading_of_outlines(found: Annotations) -> str | None:
    """Return how the boxes of a file have to be read so that most fit their outlines, None if that is not clear."""
    places = range(0, len(found), max(1, len(found) // SAMPLE))
    sample = [i for i in places if type(found.outlines[i]) is list and not found.crowd[i]]
    sample = [i for i in sample if sum(len(part) // 2 for part in found.outlines[i]) >= 3]
    if len(sample) <= FIFTH * len(places):
        return None
    seen = extents([found.outlines[i] for i in sample])
    boxes, sizes = found.boxes[sample], found.sizes[sample]
    agree = {
        name: float(np.median(overlap(_inside(read(boxes, sizes), sizes), seen))) for name, read in READINGS.items()
    }
    if agree[SIZES] >= AGREES:
        return SIZES
    best = max(agree, key=lambda name: agree[name])
    return best if agree[best] >= AGREES else None


def _inside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.clip(boxes, 0, np.tile(sizes, 2))


def faults(found: Annotations) -> dict[str, np.ndarray]:
    """Return which boxes mmdet passes over, by the reason; each is named once."""
    boxes, sizes = found.boxes, found.sizes
    inner = np.minimum(boxes[:, :2] + boxes[:, 2:], sizes) - np.maximum(boxes[:, :2], 0)
    reasons = {
        'less than 1 px wide or high': (boxes[:, 2:] < 1).any(1),
        'outside of their image': (inner <= 0).any(1),
        "with an 'area' of 0 or less": found.areas <= 0,
    }
    seen = np.zeros(len(found), bool)
    for name, where in reasons.items():
        reasons[name] = where & ~seen
        seen |= where
    return {name: where for name, where in reasons.items() if where.any()}


def check_boxes(found: Annotations, path: str | Path) -> list[str]:
    """Refuse a file whose boxes are not what COCO's are, and say what is unusual about single ones.

    Args:
        found: the file's annotations.
        path: the file.

    Returns:
        Remarks, a line each.

    Raises:
        InputError: nearly all boxes are something else: corners, centres, fractions, per cent, without extent.
    """
    number = len(found)
    if not number:
        return []
    boxes, sizes, passed_over = found.boxes, found.sizes, faults(found)
    kept = ~np.logical_or.reduce([*passed_over.values(), np.zeros(number, bool)])
    counts = ', '.join(f'{where.sum()} {name}' for name, where in passed_over.items())
    read = reading_of_outlines(found)
    if read not in (None, SIZES):
        raise InputError(f'{path}: the {number} boxes fit their outlines if they are read as {read}: {EXPECTED}')
    if (np.abs(boxes) <= 1).all() and (sizes > 2).all():
        raise InputError(f'{path}: all numbers of the {number} boxes lie between 0 and 1: fractions? {EXPECTED}')
    if kept.mean() < LEAST:
        hint = 'fractions? ' if (boxes[:, 2:] < 1).any(1).mean() > 0.5 else ''
        raise InputError(
            f'{path}: {kept.sum()} of {number} boxes are left, the others are passed over: {counts} '
            f'({_example(found, ~kept)}): {hint}{EXPECTED}, area in square pixels'
        )
    right = boxes[:, :2] + boxes[:, 2:]
    if _as_per_cent(found, right):
        raise InputError(f'{path}: none of the {number} boxes reaches beyond 100: per cent? {EXPECTED}')
    if read is None:
        inside = ((boxes[:, 2:] <= sizes + 1) & (boxes[:, :2] >= -1)).all(1)
        over = (right > np.maximum(sizes + 2, sizes * 1.01)).any(1)
        if (boxes[:, 2:] > boxes[:, :2]).all(1).mean() >= MOST and inside.mean() >= 0.8 and over.mean() >= FIFTH:
            raise InputError(
                f'{path}: {over.sum()} of {number} boxes reach out of their image ({_example(found, over)}), and '
                f'nearly all fit as {CORNERS}: {EXPECTED}'
            )
    remarks = []
    if not kept.all():
        remarks.append(f'{path}: {(~kept).sum()} of {number} boxes are left out: {counts} ({_example(found, ~kept)})')
    out = kept & ((right > sizes + ROUNDING) | (boxes[:, :2] < -ROUNDING)).any(1)
    if out.any():
        far = (_as_sizes(boxes, sizes) - _inside(_as_sizes(boxes, sizes), sizes))[out]
        centres = _as_centres(boxes, sizes)
        fit = (np.abs(centres - _inside(centres, sizes)) <= 1).all(1)
        hint = f'; nearly all fit as {CENTRES}' if out.mean() >= FIFTH and fit.mean() >= MOST else ''
        remarks.append(
            f'{path}: {out.sum()} of {number} boxes leave their image, by up to {np.abs(far).max():.1f} px, and are '
            f'trained on as they are ({_example(found, out)}){hint}'
        )
    return remarks


def _as_per_cent(found: Annotations, right: np.ndarray) -> bool:
    """Return whether boxes of many large images end before 100, some just before, which would hardly be chance."""
    if (found.boxes < 0).any() or (right > 100).any() or not (right > 80).any():
        return False
    first = {key: (*box, *size) for key, box, size in zip(found.image_ids, found.boxes, found.sizes)}
    different = np.unique(np.array([*first.values()]), axis=0)  # a box that is the same everywhere says nothing
    return bool(np.log10(np.minimum(1, 100 / different[:, 4:])).sum() < -4)


def _example(found: Annotations, where: np.ndarray) -> str:
    i: Any = int(np.flatnonzero(where)[0])
    box = ', '.join(f'{value:g}' for value in found.boxes[i])
    return f'annotation {found.ids[i]!r}: [{box}] in {found.sizes[i][0]:g} x {found.sizes[i][1]:g} px'
