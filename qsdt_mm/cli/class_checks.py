"""Classes of the data against each other and against the network's."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import nn

from qsdt_mm.datasets.image_files import is_local
from qsdt_mm.datasets.labels import Limits, classes_of
from qsdt_mm.errors import InputError

from .file_checks import LISTED, leaves_of


def shown(names: list[str], number: int = 5) -> str:
    """Return some names of a list."""
    return ', '.join(names[:number]) + (', ...' if len(names) > number else '')


def labels_of(dataset: Any) -> Counter | None:
    """Count the labels of classification that data sets list; None if they list none, or are very large."""
    counts: Counter = Counter()
    for leaf in leaves_of(dataset):
        if len(leaf) > LISTED:
            return None
        for i in range(len(leaf)):
            info = leaf.get_data_info(i)
            if not isinstance(info, Mapping) or not isinstance(info.get('gt_label'), int):
                return None
            counts[info['gt_label']] += 1
    return counts or None


OTHER_PICTURES = {'.heic', '.heif', '.avif', '.jxl', '.webp', '.jfif', '.gif', '.tiff', '.jp2'}
"""Endings of pictures that mmpretrain does not look for unless it is told."""


def left_out_of(dataset: Any, what: str) -> list[str]:
    """Return a remark if folders of classes hold pictures that the data set does not list, for their endings.

    Dead links to pictures are counted too. Data sets that are very large are left alone.

    Args:
        dataset: mmpretrain's of folders, or one that wraps such.
        what: the part of the data, for the message.
    """
    found, used = [], ()
    for leaf in leaves_of(dataset):
        root, endings = getattr(leaf, 'img_prefix', None), tuple(getattr(leaf, 'extensions', ()))
        if getattr(leaf, 'ann_file', True) or not endings or not is_local(root) or len(leaf) > LISTED:
            continue
        for folder, _, names in os.walk(root):
            for name in names:
                path, lower = os.path.join(folder, name), name.lower()
                if folder == str(root) or name.startswith('.') or not lower.endswith((*OTHER_PICTURES, *endings)):
                    continue
                if not lower.endswith(endings) or not os.path.exists(path):
                    found.append(path)
                    used = endings
    if not found:
        return []
    return [
        f'warning: {len(found):,} pictures in the folders of the {what} data are left out, {min(found)} for one: dead '
        f'links, or no file of {", ".join(sorted(used))} (the extensions of the data set)'
    ]


def check_classes(dataset: Any, model: nn.Module, what: str) -> list[str]:
    """Compare the labels that occur with the classes that there are.

    Args:
        dataset: of classification, or any other, of which only the number of classes is looked at.
        model: the network.
        what: the part of the data, for messages.

    Returns:
        Remarks: classes without an image, outputs without a class.

    Raises:
        InputError: a training of several outputs has one class only.
    """
    limits, classes, remarks = Limits.of(model), classes_of(dataset), []
    if limits.num_classes is None:
        return remarks
    if classes and len(classes) < limits.num_classes:
        remarks.append(
            f'warning: the {what} data have {len(classes)} classes ({shown(classes)}), the network has num_classes='
            f'{limits.num_classes}: {limits.num_classes - len(classes)} outputs have no class'
        )
    counts = labels_of(dataset) if getattr(model, 'head', None) is not None else None
    if counts is None:
        return remarks
    remarks += left_out_of(dataset, what)
    if what == 'training' and len(counts) == 1 and limits.num_classes > 1:
        (label,) = counts
        name = classes[label] if classes and label < len(classes) else label
        raise InputError(
            f'the training data have one class only ({name}, {counts[label]:,} images), the network has num_classes='
            f'{limits.num_classes}: there is nothing to tell apart; each class needs a folder of its own in the folder '
            'of the data set'
        )
    absent = [name for label, name in enumerate(classes or []) if not counts[label]]
    if absent:
        remarks.append(
            f'warning: {len(absent)} of the {len(classes)} classes of the {what} data have no image: {shown(absent)}'
        )
    return remarks


def check_class_weights(model: nn.Module) -> None:
    """Refuse a loss whose ``class_weight`` has another number of weights than its head has classes.

    Raises:
        InputError: it has.
    """
    for name in ('head', 'decode_head', 'auxiliary_head'):
        heads = getattr(model, name, None)
        for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
            for loss in head.modules() if isinstance(head, nn.Module) else []:
                weights, number = getattr(loss, 'class_weight', None), getattr(head, 'num_classes', None)
                softmax = not getattr(loss, 'use_sigmoid', False) and isinstance(number, int)
                if softmax and isinstance(weights, (list, tuple)) and len(weights) != number:
                    raise InputError(
                        f'class_weight of {type(loss).__name__} in {name} has {len(weights)} weights: expected one for '
                        f'each of the {number} classes'
                    )


def check_same_classes(train: Any, val: Any) -> list[str]:
    """Refuse two parts of the data in which a label means two things, as with a class's folder in one of them only.

    Returns:
        Remarks: labels that no image of the training has.

    Raises:
        InputError: the classes differ; those that only the training knows may come last.
    """
    first, second = classes_of(train), classes_of(val)
    different = next(((a, b) for a, b in zip(first or [], second or []) if a != b), None)
    if different:
        label = [*zip(first, second)].index(different)
        raise InputError(
            f'label {label} is {different[0]!r} in the training data and {different[1]!r} in the validation data: '
            f'both need the same classes ({len(first)}: {shown(first)}; {len(second)}: {shown(second)})'
        )
    if first and second and len(second) > len(first):
        raise InputError(
            f'the validation data have classes that the training data do not know: {shown(second[len(first) :])} '
            f'(training {len(first)}: {shown(first)}; validation {len(second)}: {shown(second)})'
        )
    learned, asked = labels_of(train), labels_of(val)
    unknown = sorted(set(asked) - set(learned)) if learned and asked else []
    if not unknown:
        return []
    names = [str(first[label]) if first and label < len(first) else str(label) for label in unknown]
    number = sum(asked[label] for label in unknown)
    return [
        f'warning: {number:,} images of the validation data have classes without an image to train on: {shown(names)}'
    ]
