"""Annotations of all formats, read, checked and put into COCO's form."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from qsdt_mm.errors import InputError

from .labelme import read_labelme_file
from .objects import AnnotatedObject, AnnotatedPicture, Faults, area, corners, fit
from .pictures import ENDINGS as PICTURES
from .pictures import Pictures, files_below, open_picture
from .voc import count_from_edges, counts_from_zero, read_voc_file
from .yolo import NAME_LISTS, read_yolo_file

ENDINGS = dict(voc='.xml', yolo='.txt', labelme='.json')


def read_annotations(
    kind: str,
    folder: Path,
    pictures: Pictures,
    faults: Faults,
    *,
    classes: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    origin: int | None = None,
    clip: bool = False,
    empty: bool = False,
) -> list[AnnotatedPicture]:
    """Return the pictures of a data set with their objects, checked: what is wrong is in ``faults``.

    Args:
        kind: 'voc', 'yolo' or 'labelme'.
        folder: of the annotations; those in folders below it count.
        pictures: those that they belong to.
        faults: takes what is wrong.
        classes: names, in the order that YOLO's numbers mean; for the others, those that are allowed.
        only: names of the pictures to read, with or without endings; None is all.
        origin: VOC's first pixel, 0 or 1; None is 0 if a box begins there, else 1.
        clip: cut off what stands out of a picture, see :func:`fit`.
        empty: also return pictures that no file of annotations belongs to.

    Raises:
        InputError: a folder is missing, or holds no annotations.
    """
    files = files_below(folder, {ENDINGS[kind]})
    if kind == 'yolo':
        files = [path for path in files if path.name not in NAME_LISTS]
    if not files and not empty:
        raise InputError(f'{folder} holds no file *{ENDINGS[kind]}')
    listed = None if only is None else _Listed(only)
    read: list[tuple[Path, AnnotatedPicture]] = []
    taken: dict[Path, Path] = {}
    for path in files:
        if listed is not None and not listed.has(path.relative_to(folder)):
            continue
        try:
            if kind == 'voc':
                picture = read_voc_file(path, folder, pictures, faults)
            elif kind == 'yolo':
                picture = read_yolo_file(path, folder, pictures, list(classes or ()), faults)
            else:
                picture = read_labelme_file(path, folder, pictures, faults)
        except ValueError as error:  # also of numbers in its head
            text = str(error)
            faults.lines.append(text if text.startswith(str(path)) else f'{path}: {text}')
            continue
        if picture.path in taken:
            faults.add(path, '', f'belongs to {picture.path}, as {taken[picture.path]} does')
            continue
        taken[picture.path] = path
        read.append((path, picture))
    for picture_path in pictures.paths:
        if picture_path in taken:
            continue
        if listed is not None and not listed.has(picture_path.relative_to(pictures.folder), found=empty):
            continue
        if empty:
            try:
                read.append((picture_path, open_picture(picture_path)))
            except InputError as error:
                faults.lines.append(str(error))
        elif not faults.lines:  # else it may be one whose annotations are at fault
            faults.left_out['pictures without a file of annotations'] += 1
    for name in listed.missing if listed is not None else ():
        faults.lines.append(f'{folder}: {name} is listed, and has no annotations')
    if kind == 'voc':
        held = [picture for _, picture in read]
        if origin is None:
            origin = 0 if counts_from_zero(held) else 1
            faults.notes.append(f'pixels are counted from {origin}' + ('' if origin else ': a box begins there'))
        count_from_edges(held, origin)
    for path, picture in read:
        picture.stand_upright()
        fit(picture, path, faults, clip)
        for item in picture.objects if classes else ():
            if item.label not in classes:
                faults.add(path, item.place, f'{item.label!r} is not among the classes')
    return sorted((picture for _, picture in read), key=lambda picture: picture.path)


class _Listed:
    """Names of pictures, with or without endings and folders, and which of them have not been found yet."""

    def __init__(self, names: Sequence[str]) -> None:
        paths = [PureWindowsPath(name) for name in names]  # takes both kinds of slashes
        paths = [path.with_suffix('') if path.suffix.lower() in PICTURES else path for path in paths]
        self.missing = {path.as_posix(): None for path in paths}
        self._seen: dict[str, None] = {}
        self._ends = {'/'.join(path.parts[i:]): path.as_posix() for path in paths for i in range(len(path.parts))}

    def has(self, path: Path, found: bool = True) -> bool:
        """Return whether a file, relative to its folder, is listed: by its path, or by its mere name; note it."""
        name = self._ends.get(path.with_suffix('').as_posix())
        if name is None and (path.stem in self.missing or path.stem in self._seen):
            name = path.stem
        if name is not None and found:
            self._seen[name] = None
            self.missing.pop(name, None)
        return name is not None


def found_classes(pictures: Sequence[AnnotatedPicture]) -> list[str]:
    """Return the classes that occur, in alphabetical order."""
    return sorted({item.label for picture in pictures for item in picture.objects})


def split(
    pictures: Sequence[AnnotatedPicture], share: float, seed: int
) -> tuple[list[AnnotatedPicture], list[AnnotatedPicture]]:
    """Return two parts, the second of about a share of the pictures, drawn by the seed; each has one or more.

    Raises:
        InputError: there is only one picture.
    """
    if len(pictures) < 2:
        raise InputError(f'{len(pictures)} picture cannot be divided into two parts')
    order = list(range(len(pictures)))
    random.Random(seed).shuffle(order)
    number = min(max(round(share * len(pictures)), 1), len(pictures) - 1)
    second = set(order[:number])
    return tuple([p for i, p in enumerate(pictures) if (i in second) is part] for part in (False, True))


def to_coco(
    pictures: Sequence[AnnotatedPicture], folder: Path, classes: Sequence[str], with_outlines: bool
) -> dict[str, Any]:
    """Return COCO's annotations: ``images``, ``categories`` (ids from 1, in the classes' order), ``annotations``.

    Args:
        pictures: with their objects, inside them.
        folder: what ``file_name`` is relative to.
        classes: names of all classes.
        with_outlines: each object gets a ``segmentation``; where only its box is known, the box.
    """
    number = {name: i for i, name in enumerate(classes, 1)}
    images, annotations = [], []
    for i, picture in enumerate(pictures, 1):
        name = picture.path.relative_to(folder).as_posix()
        images.append(dict(id=i, file_name=name, width=picture.width, height=picture.height))
        for item in picture.objects:
            left, top, right, bottom = (round(float(value), 2) for value in item.box)
            width, height = round(right - left, 2), round(bottom - top, 2)
            row = dict(
                id=len(annotations) + 1,
                image_id=i,
                category_id=number[item.label],
                bbox=[left, top, width, height],
                area=round(width * height, 2),
                iscrowd=int(item.ignored),
            )
            if with_outlines:
                row.update(_segmentation(item, picture))
            annotations.append(row)
    categories = [dict(id=i, name=name) for name, i in number.items()]
    return dict(images=images, annotations=annotations, categories=categories)


def _segmentation(item: AnnotatedObject, picture: AnnotatedPicture) -> dict[str, Any]:
    outlines = item.outlines or ([] if item.masks else [corners(item.box)])
    if not item.masks:
        flat = [[round(float(value), 2) for point in outline for value in point] for outline in outlines]
        return dict(segmentation=flat, area=round(sum(map(area, outlines)), 2))
    import numpy as np
    from pycocotools import mask as coco_mask

    canvas = np.zeros((picture.height, picture.width), np.uint8, order='F')
    for left, top, pixels in item.masks:
        place = canvas[max(top, 0) : top + len(pixels), max(left, 0) : left + pixels.shape[1]]
        inside = pixels[max(-top, 0) :, max(-left, 0) :][: place.shape[0], : place.shape[1]]
        place |= inside.astype(np.uint8)
    parts = [coco_mask.encode(canvas)]
    if outlines:
        flat = [[float(value) for point in outline for value in point] for outline in outlines]
        parts += coco_mask.frPyObjects(flat, picture.height, picture.width)
    whole = coco_mask.merge(parts)
    counts = whole['counts'].decode('ascii')
    return dict(
        segmentation=dict(size=[picture.height, picture.width], counts=counts), area=float(coco_mask.area(whole))
    )


def counts(pictures: Sequence[AnnotatedPicture], classes: Sequence[str]) -> dict[str, int]:
    """Return how many objects of each class there are, in the classes' order."""
    found = Counter(item.label for picture in pictures for item in picture.objects)
    return {name: found[name] for name in classes}
