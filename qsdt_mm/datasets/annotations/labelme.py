"""Labelme's JSON files: one for each picture."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsdt_mm.errors import InputError

from .objects import AnnotatedObject, AnnotatedPicture, Faults, Point, box_around, corners
from .pictures import Pictures, open_picture
from .text import read_text

if TYPE_CHECKING:
    import numpy as np

WITHOUT_AREA = ('point', 'points', 'line', 'linestrip')
POLYGONS = ('polygon', 'rotation', 'oriented_rectangle')  # the others are of programs that write Labelme's format, too
LARGEST = 1e9  # coordinate
CIRCLE = 48  # corners of the polygon that stands for a circle


def read_labelme_file(path: Path, folder: Path, pictures: Pictures, faults: Faults) -> AnnotatedPicture:
    """Return a picture and its objects; wrong shapes go to ``faults``, those without an area are counted there.

    Shapes of one label and one ``group_id`` are one object. Circles become polygons; painted masks stay masks.

    Args:
        path: the file.
        folder: the one that all annotations are in.
        pictures: where to look for the picture.
        faults: takes what is wrong.

    Raises:
        InputError: the file as a whole is of no use.
    """
    try:
        held = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f'{path}, line {error.lineno}: no JSON: {error.msg}') from error
    except RecursionError as error:
        raise InputError(f'{path} is no JSON file that can be read: too deep') from error
    shapes = held.get('shapes') if isinstance(held, dict) else None
    if not isinstance(shapes, list):
        raise InputError(f'{path} is no file of Labelme: it has no list "shapes"')
    name = held.get('imagePath')
    inside = path.relative_to(folder).with_suffix('')
    here = [f'{inside.parent.as_posix()}/{name}', name] if isinstance(name, str) and name else []
    sides = [held.get(side) for side in ('imageWidth', 'imageHeight')]
    picture = open_picture(pictures.find(*here, inside, path.stem), sides)
    groups: dict[tuple, AnnotatedObject] = {}
    for i, shape in enumerate(shapes):
        place = f'shapes[{i}]'
        try:
            item = _object(shape, place, faults)
            if item is None:
                continue
            if picture.turn is not None and item.masks:
                raise ValueError('a mask of a picture that lies on its side: save it again with Labelme')
        except ValueError as error:
            faults.add(path, place, str(error))
            continue
        group = shape.get('group_id')
        if group is None or (item.label, group) not in groups:
            groups[(item.label, group) if group is not None else (place,)] = item
            continue
        first = groups[(item.label, group)]
        for one in (first, item):
            one.outlines = one.outlines or ([] if one.masks else [corners(one.box)])
        first.outlines += item.outlines
        first.masks += item.masks
        first.box = box_around([first.box[:2], first.box[2:], item.box[:2], item.box[2:]])
        first.may_stand_out |= item.may_stand_out
    picture.objects = list(groups.values())
    return picture


def _object(shape: Any, place: str, faults: Faults) -> AnnotatedObject | None:
    if not isinstance(shape, dict):
        raise ValueError('expected an object')
    label, kind = shape.get('label'), shape.get('shape_type') or 'polygon'
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f'label {label!r}: expected a word')
    label, ignored = label.strip(), shape.get('difficult') is True
    group = shape.get('group_id')
    if not isinstance(group, (int, str, type(None))):
        raise ValueError(f'group_id {group!r}: expected a number')
    if kind in WITHOUT_AREA:
        faults.left_out[f'shapes of the type {kind}'] += 1
        return None
    points = _points(shape.get('points'))
    if kind == 'rectangle' and len(points) == 2:
        return AnnotatedObject(label, box_around(points), ignored=ignored, place=place)
    if kind == 'circle' and len(points) == 2:
        (x, y), radius = points[0], math.dist(*points)
        turns = [2 * math.pi * i / CIRCLE for i in range(CIRCLE)]
        outline = [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]
        box = (x - radius, y - radius, x + radius, y + radius)
        return AnnotatedObject(label, box, [outline], ignored=ignored, place=place, may_stand_out=True)
    if kind == 'mask' and len(points) == 2:
        left, top, right, bottom = box_around(points)
        pixels = _pixels(shape.get('mask'), (round(bottom - top) + 1, round(right - left) + 1))
        box = (left, top, right + 1, bottom + 1)  # its corners are pixels, both inside
        masks = [(round(left), round(top), pixels)]
        return AnnotatedObject(label, box, masks=masks, ignored=ignored, place=place)
    if kind in (*POLYGONS, 'rectangle') and len(points) > 2:
        return AnnotatedObject(label, box_around(points), [points], ignored=ignored, place=place)
    if kind in (*POLYGONS, 'rectangle', 'circle', 'mask'):
        raise ValueError(f'a {kind} of {len(points)} points')
    raise ValueError(f'shape_type {str(kind)[:40]!r} is not known')


def _points(points: Any) -> list[Point]:
    if not isinstance(points, list):
        raise ValueError('it has no list "points"')
    for point in points:
        numbers = isinstance(point, list) and len(point) == 2 and all(type(value) in (int, float) for value in point)
        if not numbers or not all(abs(value) < LARGEST for value in point):  # NaN is not, either
            raise ValueError(f'point {str(point)[:60]}: expected two numbers')
    return [tuple(point) for point in points]


def _pixels(text: Any, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a painted mask, a PNG in base64."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as picture:
            if picture.size != shape[::-1]:
                raise ValueError(f'a mask of {picture.size[0]} x {picture.size[1]} in a box of {shape[1]} x {shape[0]}')
            return np.asarray(picture.convert('L')) > 0
    except (TypeError, binascii.Error, OSError, SyntaxError, Image.DecompressionBombError):
        raise ValueError('its mask is no PNG in base64') from None
