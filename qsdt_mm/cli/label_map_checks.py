"""Label maps of a part of the data: do they hold the classes at all?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from qsdt_mm.datasets.image_files import is_local
from qsdt_mm.datasets.label_files import label_loader
from qsdt_mm.datasets.labels import Limits
from qsdt_mm.errors import InputError, is_own_fault

from .file_checks import leaves_of

ENOUGH = 2000
"""Maps of nothing but label 0 after which no more are read; masks of 0 and 255 are read to the last."""


def maps_of(dataset: Any, seed: int = 0) -> Iterator[tuple[Any, int, set[int]]]:
    """Yield data set, index and values of each label map, as its loader reads it, in an order that ``seed`` mixes."""
    for leaf in leaves_of(dataset):
        loader = label_loader(leaf)
        if loader is None:
            continue
        order = list(range(len(leaf)))
        random.Random(seed).shuffle(order)
        for i in order:
            info = leaf.get_data_info(i)
            if not is_local(info.get('seg_map_path')):
                break
            info.setdefault('seg_fields', [])
            try:
                labels = loader(info)['gt_seg_map']
            except Exception as error:
                if is_own_fault(error):
                    raise
                continue  # met again, and named, when the sample is read
            yield leaf, i, {int(value) for value in np.flatnonzero(np.bincount(labels.ravel()))}


def check_label_values(dataset: Any, model: nn.Module, what: str) -> list[str]:
    """Refuse label maps that hold no class, or one class beside pixels to ignore: masks of 0 and 255.

    Maps are read until one holds something else, which is one or two where nothing is wrong.

    Args:
        dataset: mmengine's, or one that wraps such.
        model: a network; of a segmenter, the head says what is ignored.
        what: the part, for the message.

    Returns:
        Remarks that are no reason to stop.

    Raises:
        InputError: there is no label but those to ignore, or but 0 and 255.
    """
    limits = Limits.of(model)
    if getattr(model, 'decode_head', None) is None or limits.of_pixels is None or limits.of_pixels < 2:
        return []
    ignored, found, number, holding = set(limits.ignored), set(), 0, []
    for leaf, i, values in maps_of(dataset):
        found |= values
        number += 1
        if values & ignored:
            holding.append((leaf, i))
        if found - ignored - {0} or (number >= ENOUGH and not holding):
            return [] if found - ignored - {0} else [_one_class(number, what)]
    if not number:
        return []
    if ignored == {255} and found == {0, 255} and (what == 'training' or len(holding) > 1):
        if not any(_labels(leaf[i]) - {0, 255} for leaf, i in holding[:8]):  # a later step may change them
            raise InputError(
                f'all {number:,} label maps of the {what} data hold 0 and 255 and nothing else, and the network has '
                f'{limits.of_pixels} classes: 255 means ignore; write 1, or load them with '
                "dict(type='LoadLabelMap', mapping={255: 1})"
            )
        return []
    if not found - ignored:
        if any(_labels(leaf[i]) - ignored for leaf, i in holding[:8]):
            return []
        void = ', '.join(map(str, sorted(found)))
        raise InputError(
            f'all {number:,} label maps of the {what} data hold {void} and nothing else, which means ignore: there is '
            'nothing to learn or to score (reduce_zero_label makes 255 of 0)'
        )
    return [_one_class(number, what)] if found - ignored == {0} else []


def _one_class(number: int, what: str) -> str:
    return f'warning: {number:,} label maps of the {what} data were read: all pixels have label 0 or are ignored'


def _labels(sample: Any) -> set[int]:
    """Return the labels of a sample as the network gets it."""
    samples = sample.get('data_samples') if isinstance(sample, dict) else None
    first = samples[0] if isinstance(samples, list) and samples else samples
    labels = getattr(getattr(first, 'gt_sem_seg', None), 'data', None)
    return set() if labels is None else {int(value) for value in labels.unique()}
