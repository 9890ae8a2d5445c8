"""Fields and identifiers of a COCO file: types, and whether they fit together.

Every field is looked at in one pass that loops in C; only a file in which something is wrong is gone through again, to
name the first place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from qsdt_mm.errors import InputError

NAME, NUMBER = {int, str}, {int, float}


@dataclass
class Annotations:
    """The columns of a file's annotations, N of them.

    Args:
        ids: of the annotations.
        image_ids: of their images.
        category_ids: of their categories.
        boxes: left, top, width, height; (N, 4) px.
        sizes: width and height of the image of each; (N, 2) px.
        areas: (N,).
        crowd: (N,) of bool.
        ignored: (N,) of bool, those that mmdet passes over.
        outlines: as the file has them: lists of polygons, masks as dicts, None.

    >>> flags = np.zeros(1, bool)
    >>> boxes, sizes = np.array([[0, 0, 9, 9]]), np.array([[64, 48]])
    >>> len(Annotations([7], [1], [3], boxes, sizes, np.array([81]), flags, flags, outlines=[None]))
    1
    """

    ids: list
    image_ids: list
    category_ids: list
    boxes: np.ndarray
    sizes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray
    outlines: list = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)


def is_number(value: Any) -> bool:
    """Return whether a value of a JSON file is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _types(values: Iterable) -> set[type]:
    return set(map(type, values))


def _is_name(value: Any) -> bool:
    return type(value) in NAME


def rows_of(held: Any, name: str, path: str | Path) -> list[dict]:
    """Return a list of objects that a COCO file has to have.

    Raises:
        InputError: it does not have it.
    """
    found = held.get(name) if isinstance(held, dict) else None
    if not isinstance(found, list) or not _types(found) <= {dict}:
        raise InputError(f'{path} holds no COCO annotations: expected a list of objects under {name!r}')
    return found


def _identifiers(rows: Sequence[dict], name: str, path: str | Path) -> list:
    ids = [row.get('id') for row in rows]
    if not _types(ids) <= NAME:
        i = next(i for i, key in enumerate(ids) if not _is_name(key))
        raise InputError(f'{path}: {name}[{i}] has id {ids[i]!r}: expected a number or a word')
    if len(set(ids)) != len(ids):
        seen: set = set()
        i = next(i for i, key in enumerate(ids) if key in seen or seen.add(key))
        raise InputError(f'{path}: {name}[{i}] has id {ids[i]!r}, which another has too')
    return ids


def check_images(held: Any, path: str | Path, names: Sequence[str] = ('file_name',)) -> dict[Any, tuple[int, int]]:
    """Check the images of a file and return width and height of each by its identifier.

    Args:
        held: the file's content.
        path: the file.
        names: keys of which one has to name the image's file.

    Raises:
        InputError: something is wrong; the message names the place.
    """
    rows = rows_of(held, 'images', path)
    ids = _identifiers(rows, 'images', path)
    for i, row in enumerate(rows):
        if not any(isinstance(row.get(name), str) and row[name] for name in names):
            raise InputError(f'{path}: images[{i}] has {names[0]} {row.get(names[0])!r}: expected a file')
        for side in ('height', 'width'):
            if type(row.get(side)) is not int or row[side] < 1:
                raise InputError(f'{path}: images[{i}] has {side} {row.get(side)!r}: expected an integer >= 1')
    kinds = _types(ids)
    if len(kinds) > 1:
        numbers, words = (next(key for key in ids if type(key) is kind) for kind in (int, str))
        raise InputError(f'{path}: ids of images are numbers ({numbers}) and words ({words!r}): expected one of them')
    return {key: (row['width'], row['height']) for key, row in zip(ids, rows)}


def check_categories(held: Any, path: str | Path) -> dict[Any, str]:
    """Check the categories of a file and return the name of each by its identifier, in the file's order.

    Raises:
        InputError: something is wrong; the message names the place.
    """
    rows = rows_of(held, 'categories', path)
    ids = _identifiers(rows, 'categories', path)
    for i, row in enumerate(rows):
        if not isinstance(row.get('name'), str):
            raise InputError(f'{path}: categories[{i}] has name {row.get("name")!r}: expected a word')
    return {key: row['name'] for key, row in zip(ids, rows)}


def check_annotations(
    held: Any,
    path: str | Path,
    sizes: dict[Any, tuple[int, int]],
    categories: Iterable,
    tick: Callable[[str], Any] = lambda what: None,
) -> Annotations:
    """Check each annotation of a file and return their columns.

    Args:
        held: the file's content; an ``iscrowd`` that is missing becomes 0, as data sets read it and metrics do not.
        path: the file.
        sizes: width and height of the images.
        categories: identifiers of the categories.
        tick: is told what is looked at.

    Raises:
        InputError: something is wrong; the message names the place.
    """
    rows = rows_of(held, 'annotations', path)
    tick('identifiers')
    ids = _identifiers(rows, 'annotations', path)
    columns = {}
    for key, known in (('image_id', set(sizes)), ('category_id', set(categories))):
        columns[key] = found = [row.get(key) for row in rows]
        if not (_types(found) <= NAME and known.issuperset(found)):
            i = next(i for i, one in enumerate(found) if not _is_name(one) or one not in known)
            raise InputError(f'{path}: annotations[{i}] has {key} {found[i]!r}, which is not there')
    tick('boxes')
    boxes = _boxes([row.get('bbox') for row in rows], path)
    said = [row.get('area') for row in rows]
    areas = _array(said)
    if areas is None:
        i = next(i for i, area in enumerate(said) if not is_number(area))
        raise InputError(f'{path}: annotations[{i}] has area {str(said[i])[:60]}: expected a number')
    crowd = [row.setdefault('iscrowd', 0) for row in rows]
    if not _types(crowd) <= {int, bool, float} or not set(crowd) <= {0, 1}:
        i = next(i for i, one in enumerate(crowd) if one not in (0, 1))
        raise InputError(f'{path}: annotations[{i}] has iscrowd {crowd[i]!r}: expected 0 or 1')
    tick('outlines')
    outlines = [row.get('segmentation') for row in rows]
    _check_outlines(outlines, path, columns['image_id'], sizes)
    return Annotations(
        ids=ids,
        image_ids=columns['image_id'],
        category_ids=columns['category_id'],
        boxes=boxes,
        sizes=np.array([sizes[key] for key in columns['image_id']], float).reshape(-1, 2),
        areas=areas,
        crowd=np.array(crowd, bool),
        ignored=np.array([bool(row.get('ignore')) for row in rows], bool),
        outlines=outlines,
    )


def _array(values: Sequence) -> np.ndarray | None:
    """Return numbers as an array, None if one is no number or not finite."""
    if not _types(values) <= NUMBER:
        return None
    try:
        found = np.array(values, float)
    except OverflowError:
        return None
    return found if np.isfinite(found).all() else None


def _boxes(boxes: list, path: str | Path) -> np.ndarray:
    found = None
    if _types(boxes) <= {list} and set(map(len, boxes)) <= {4}:
        found = _array(list(chain.from_iterable(boxes)))
    if found is None:
        fits = (isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) for box in boxes)
        i = next(i for i, fit in enumerate(fits) if not fit)
        raise InputError(f'{path}: annotations[{i}] has bbox {str(boxes[i])[:60]}: expected four numbers')
    return found.reshape(-1, 4)


def _check_outlines(outlines: list, path: str | Path, image_ids: list, sizes: dict) -> None:
    polygons = [shape for shape in outlines if type(shape) is list]
    parts = list(chain.from_iterable(polygons))
    try:  # a sum is a number if all that is summed is, and finite if all that is summed is
        faulty = not _types(parts) <= {list} or _array(list(map(sum, parts))) is None
    except TypeError:
        faulty = True
    if not faulty and _types(outlines) <= {list, type(None)}:
        return
    for i, shape in enumerate(outlines):
        if shape is None:
            continue
        place = f'{path}: annotations[{i}]'
        if isinstance(shape, dict) and {'size', 'counts'} <= set(shape):
            width, height = sizes[image_ids[i]]
            if shape['size'] != [height, width] or not isinstance(shape['counts'], (list, str)):
                raise InputError(f'{place} has a mask of size {shape["size"]}: its image has {[height, width]}')
        elif not isinstance(shape, list) or (
            faulty and not all(isinstance(part, list) and all(map(is_number, part)) for part in shape)
        ):
            raise InputError(f'{place} has segmentation {str(shape)[:60]}: expected polygons or a mask')
