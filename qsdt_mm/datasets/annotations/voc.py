"""PASCAL VOC's XML files: one for each picture."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element

from qsdt_mm.errors import InputError

from .objects import AnnotatedObject, AnnotatedPicture, Faults, box_around
from .pictures import Pictures, open_picture
from .text import read_xml

SIDES = ('xmin', 'ymin', 'xmax', 'ymax')


def read_voc_file(path: Path, folder: Path, pictures: Pictures, faults: Faults) -> AnnotatedPicture:
    """Return a picture and its objects; boxes as they are written, see :func:`count_from_edges`.

    Args:
        path: the file. Rotated boxes (``robndbox`` of roLabelImg) are read, too.
        folder: the one that all annotations are in.
        pictures: where to look for the picture: by the file's name, then by ``filename``.
        faults: takes what is wrong with one object.

    Source: VOC2012 development kit, section 2.2; pixels are counted from 1, ``xmax`` and ``ymax`` are inside the box.

    Raises:
        InputError: the file as a whole is of no use.
    """
    root = read_xml(path)
    if root.tag != 'annotation':
        raise InputError(f'{path}, line {root.get("{line}")}: <{root.tag}> where <annotation> is expected')
    name = (root.findtext('filename') or '').strip()
    sides = [_number(root.find(f'size/{side}'), 0.0) for side in ('width', 'height')]
    picture = open_picture(pictures.find(path.relative_to(folder).with_suffix(''), path.stem, name), sides)
    for element in root.iterfind('object'):
        place = f'line {element.get("{line}")}'
        try:
            picture.objects.append(_object(element, place))
        except ValueError as error:
            faults.add(path, place, str(error))
    return picture


def _object(element: Element, place: str) -> AnnotatedObject:
    label = (element.findtext('name') or '').strip()
    if not label:
        raise ValueError('an object without a name')
    ignored = bool(_number(element.find('difficult'), 0.0))
    turned = element.find('robndbox')
    if turned is not None:
        cx, cy, width, height, angle = (_number(turned.find(key)) for key in ('cx', 'cy', 'w', 'h', 'angle'))
        cos, sin = math.cos(angle) / 2, math.sin(angle) / 2
        outline = [
            (cx + i * width * cos - j * height * sin, cy + i * width * sin + j * height * cos)
            for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
        return AnnotatedObject(label, box_around(outline), [outline], ignored=ignored, place=place)
    box = element.find('bndbox')
    if box is None:
        raise ValueError(f'object {label!r} has no <bndbox>')
    left, top, right, bottom = (_number(box.find(side)) for side in SIDES)
    return AnnotatedObject(label, (left, top, right, bottom), ignored=ignored, place=f'line {box.get("{line}")}')


def _number(element: Element | None, default: float | None = None) -> float:
    text = '' if element is None else (element.text or '').strip()
    if not text and default is not None:
        return default
    if not text:
        raise ValueError('a number is missing')
    try:
        value = float({'true': '1', 'false': '0', 'unspecified': '0'}.get(text.lower(), text))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'<{element.tag}> is {text[:40]!r}, which is no number')
    return value


def counts_from_zero(pictures: list[AnnotatedPicture]) -> bool:
    """Return whether a set counts pixels from 0, unlike VOC: a box of it begins before pixel 1."""
    plain = (item for picture in pictures for item in picture.objects if not item.outlines)
    return any(0 <= side < 1 for item in plain for side in item.box[:2])


def count_from_edges(pictures: list[AnnotatedPicture], origin: int) -> None:
    """Turn boxes as they are written into edges in pixels from 0, in place.

    Args:
        pictures: of :func:`read_voc_file`.
        origin: 1, VOC's own: a box from pixel 1 to pixel 1 is one pixel wide, from edge 0 to edge 1. 0: boxes are
            edges already, as in the exports of several annotation tools.
    """
    for picture in pictures:
        for item in picture.objects:
            if origin and not item.outlines:
                left, top, right, bottom = item.box
                item.box = (left - 1, top - 1, right, bottom)
