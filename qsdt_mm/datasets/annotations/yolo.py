"""YOLO's text files: one for each picture, a line for each object; and the lists of classes beside them."""

from __future__ import annotations

import math
from pathlib import Path

from qsdt_mm.errors import InputError

from .objects import TOLERANCE, AnnotatedObject, AnnotatedPicture, Faults, box_around
from .pictures import Pictures, open_picture
from .text import read_text

NAME_LISTS = ('classes.txt', 'obj.names', 'labels.txt', 'data.yaml', 'data.yml', 'dataset.yaml')


def read_yolo_file(
    path: Path, folder: Path, pictures: Pictures, classes: list[str], faults: Faults
) -> AnnotatedPicture:
    """Return a picture and its objects; wrong lines go to ``faults``.

    A line is ``class cx cy w h`` or, with an outline, ``class x1 y1 x2 y2 x3 y3 ...``, as shares of the upright
    picture's width and height.

    Args:
        path: the file.
        folder: the one that all annotations are in.
        pictures: where to look for the picture.
        classes: names, in the order of YOLO's numbers.
        faults: takes what is wrong.

    Raises:
        InputError: the file as a whole is of no use.
    """
    picture = open_picture(pictures.find(path.relative_to(folder).with_suffix(''), path.stem))
    for i, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            try:
                picture.objects.append(_object(line.split(), picture, classes, f'line {i}'))
            except ValueError as error:
                faults.add(path, f'line {i}', str(error))
    return picture


def _object(words: list[str], picture: AnnotatedPicture, classes: list[str], place: str) -> AnnotatedObject:
    try:
        index, *values = map(float, words)
    except ValueError:
        wrong = next(word for word in words if not _is_number(word))
        raise ValueError(f'{wrong[:40]!r} is no number') from None
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            f'{len(words)} values: expected a class and 4 numbers of a box, or x and y of 3 points or more'
        )
    if not index.is_integer() or not 0 <= index < len(classes):
        known = f'{len(classes)} classes, 0 to {len(classes) - 1}'
        raise ValueError(f'class {words[0]} is not known: there are {known}')
    label, width, height = classes[int(index)], picture.width, picture.height
    if not all(map(math.isfinite, values)):
        raise ValueError('a value is not finite')
    slack = 1 + TOLERANCE / min(width, height)
    if max(values) > max(2.0, slack):
        raise ValueError(f'{max(values):g} is no share of the picture: YOLO counts from 0 to 1, not in pixels')
    if len(values) == 4:
        cx, cy, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
        return AnnotatedObject(label, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), place=place)
    outline = [(x * width, y * height) for x, y in zip(values[::2], values[1::2])]
    return AnnotatedObject(label, box_around(outline), [outline], place=place)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def find_name_list(folder: Path) -> Path | None:
    """Return the list of classes that lies in the folder of labels or in one of the two above it."""
    for place in (folder, *folder.resolve().parents[:2]):
        for name in NAME_LISTS:
            if (place / name).is_file():
                return place / name
    return None


def read_names(path: Path) -> list[str]:
    """Return the names of classes: one a line, or those of a YOLO set's ``data.yaml``, in the order of their numbers.

    Lines ``__ignore__`` and ``_background_`` of Labelme's lists do not count.

    Raises:
        InputError: there are none, or one occurs twice; the message names the file.
        OSError: the file cannot be read.
    """
    text = read_text(path)
    if path.suffix.lower() in ('.yaml', '.yml'):
        names = _yaml_names(path, text)
    else:
        names = [line.strip() for line in text.splitlines()]
        while names and not names[-1]:
            names.pop()
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise InputError(f'{path}: class {i} has the name {name!r}: expected a word')
    names = [name for name in names if name not in ('__ignore__', '_background_')]
    if not names:
        raise InputError(f'{path} names no class')
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f'{path} names the class {twice!r} twice')
    return names


def _yaml_names(path: Path, text: str) -> list[str]:
    import yaml

    try:
        held = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f'{path} is no YAML file: {" ".join(str(error).split())[:120]}') from error
    names = held.get('names') if isinstance(held, dict) else None
    if isinstance(names, dict):
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise InputError(f'{path}: the numbers of its names are not 0 to {len(names) - 1}')
        names = [names[key] for key in sorted(names, key=int)]
    if not isinstance(names, list) or not names:
        raise InputError(f'{path} has no list "names"')
    return [str(name).strip() if isinstance(name, (str, int)) else name for name in names]
