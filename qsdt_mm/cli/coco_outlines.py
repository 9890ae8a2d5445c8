"""Outlines of a COCO file: which annotations have one that a mask can be made of."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from qsdt_mm.errors import InputError

from .coco_structure import Annotations

BOX_ONLY = (
    "use a config for boxes only (configs/detection/retinanet_*, or with_mask=False, no mask_head and metric='bbox')"
)


@dataclass
class Outlines:
    """Outlines of N annotations.

    Args:
        absent: (N,) of bool, those that have none.
        too_short: (N,) of bool, those of which no part has three points, x and y of each.
        bitmaps: (N,) of bool, run-length codes.
        trimmed: those of which some parts are too short, without them; by index.

    >>> found = np.array([False, True])
    >>> Outlines(absent=found, too_short=~found, bitmaps=found & False, trimmed={}).absent.sum().item()
    1
    """

    absent: np.ndarray
    too_short: np.ndarray
    bitmaps: np.ndarray
    trimmed: dict[int, list]


def is_polygon(part: list) -> bool:
    """Return whether a part of an outline has three points or more, x and y of each."""
    return len(part) >= 6 and len(part) % 2 == 0


def find_outlines(found: Annotations) -> Outlines:
    """Sort the outlines of a file's annotations."""
    shapes, number = found.outlines, len(found)
    bitmaps = np.array([type(shape) is dict and bool(shape.get('counts')) for shape in shapes], bool)
    counts = np.array([len(shape) if type(shape) is list else 0 for shape in shapes], int)
    parts = chain.from_iterable([shape for shape in shapes if type(shape) is list])
    lengths = np.fromiter(map(len, parts), int, counts.sum())
    owner = np.repeat(np.arange(number), counts)
    whole = np.bincount(owner, (lengths >= 6) & (lengths % 2 == 0), number).astype(int)
    written = np.bincount(owner, lengths > 0, number).astype(int)
    mixed = np.flatnonzero((whole > 0) & (whole < counts))
    return Outlines(
        absent=~bitmaps & (written == 0),
        too_short=(written > 0) & (whole == 0),
        bitmaps=bitmaps,
        trimmed={int(i): [part for part in shapes[i] if is_polygon(part)] for i in mixed},
    )


def check_outlines(found: Annotations, outlines: Outlines, path: str | Path, bitmaps: bool = True) -> list[str]:
    """Refuse a file that has no outlines to train masks on, and count the annotations that have none.

    Args:
        found: the file's annotations.
        outlines: of them.
        path: the file.
        bitmaps: whether run-length codes are read (``poly2mask`` of ``LoadAnnotations``).

    Returns:
        Remarks, a line each.

    Raises:
        InputError: no annotation but crowds has an outline that can be used.
    """
    counted = ~(found.crowd | found.ignored)
    number = int(counted.sum())
    if not number:
        return []
    absent, short = (int((where & counted).sum()) for where in (outlines.absent, outlines.too_short))
    unread = 0 if bitmaps else int((outlines.bitmaps & counted).sum())
    if absent == number:
        raise InputError(f'{path} has no outlines (segmentation) for its {number} boxes: write them, or {BOX_ONLY}')
    if unread == number:
        raise InputError(
            f'{path}: all {number} outlines are run-length codes, which poly2mask=False leaves out: set poly2mask=True'
        )
    if absent + short + unread == number:
        raise InputError(
            f'{path}: none of {number} outlines can be used ({_counts(absent, short, unread)}): expected polygons of '
            f'three points or more, [x1, y1, x2, y2, x3, y3, ...], or {BOX_ONLY}'
        )
    remarks = []
    if absent + short + unread:
        i = int(np.flatnonzero((outlines.absent | outlines.too_short | (outlines.bitmaps & (unread > 0))) & counted)[0])
        remarks.append(
            f'{path}: {absent + short + unread} of {number} annotations are left out for want of an outline: '
            f'{_counts(absent, short, unread)} (first: annotation {found.ids[i]!r})'
        )
    if outlines.trimmed:
        i = next(iter(outlines.trimmed))
        remarks.append(
            f'{path}: parts of less than three points are left out of {len(outlines.trimmed)} outlines '
            f'(first: annotation {found.ids[i]!r})'
        )
    return remarks


def _counts(absent: int, short: int, unread: int) -> str:
    said = ((absent, 'without any'), (short, 'of less than three points'), (unread, 'run-length codes'))
    return ', '.join(f'{count} {what}' for count, what in said if count)
