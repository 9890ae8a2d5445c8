"""The classes of a data set, and the categories of its COCO file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from qsdt_mm.errors import InputError

from .annotation_uses import Use

SHOWN = 10


def labels_of(categories: dict, use: Use) -> dict[str, int]:
    """Return the label that mmdet gives each class: its place among those categories of the file that are classes."""
    wanted = set(use.classes)
    names = [name for name in categories.values() if name in wanted or not wanted]
    return {name: label for label, name in enumerate(names)}


def check_classes(categories: dict, use: Use, path: str | Path) -> list[str]:
    """Refuse a file without a category for each class, or with two of one name.

    Args:
        categories: names by identifier, in the file's order.
        use: who reads it.
        path: the file.

    Returns:
        Remarks, a line each.

    Raises:
        InputError: both lists are shown.
    """
    names = list(categories.values())
    lists = f'the classes are {listed(use.classes)}; its categories are {listed(names)}'
    known = set(names)
    absent = [name for name in use.classes if name not in known]
    if absent:
        more = ' (give the classes of your own: metainfo=dict(classes=(...)) of each data set)' if not use.given else ''
        which = repr(absent[0]) + (f' and {len(absent) - 1} more' if len(absent) > 1 else '')
        raise InputError(f'{path} has no category {which}, which is among the classes: {lists}{more}')
    wanted = set(use.classes)
    for kind, these in (('classes', use.classes), ('categories', names)):
        counts = Counter(these)
        twice = next((name for name in these if counts[name] > 1 and (name in wanted or not wanted)), None)
        if twice is not None:
            raise InputError(f'{path}: {twice!r} is there twice among the {kind}: {lists}')
    if use.ordered and use.classes:
        order = list(labels_of(categories, use))
        if order != list(use.classes):
            label = next(i for i, (a, b) in enumerate(zip(order, use.classes)) if a != b)
            return [
                f'{path}: mmdet numbers labels in the order of the file: label {label} is {order[label]!r}, but is '
                f'called {use.classes[label]!r} in pictures: write classes=({", ".join(map(repr, order[:SHOWN]))}'
                f'{", ..." if len(order) > SHOWN else ""})'
            ]
    return []


def listed(names: Iterable) -> str:
    """Return names as a text, the first ten of many and their number."""
    these = [str(name) for name in names] or ['none']
    return ', '.join(these[:SHOWN]) + (f', ... ({len(these)})' if len(these) > SHOWN else '')
