"""Images and label maps of a data set: are they there, whole, and what the loader takes them for?"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from mmcv.transforms import LoadImageFromFile

from qsdt_mm.datasets.image_files import (
    check_whole,
    has_clear_pixels,
    highest_value,
    is_local,
    read_head,
    reads_disk,
)
from qsdt_mm.datasets.label_files import check_label_file, label_loader, steps_of
from qsdt_mm.datasets.labels import parts_below, parts_of
from qsdt_mm.errors import InputError, is_own_fault

LISTED = 200_000
"""Samples of a part that are looked for in their folders."""
OPENED = 1000
"""Files of which head and end are read."""
DECODED, SECONDS = 32, 1.5
"""Files that are decoded whole, at least, and the time after which there are no more."""
LEVELS = 64
"""Steps of grey below which the bits of a picture have been lost, not left empty."""


def leaves_of(dataset: Any) -> Iterator[Any]:
    """Yield the data sets at the bottom of all wrappers that can tell what their samples are."""
    for part in parts_of(dataset):
        if next(parts_below(part), None) is None and hasattr(part, 'get_data_info'):
            yield part


def infos_of(dataset: Any, number: int) -> list[Mapping]:
    """Return what a data set knows of so many of its samples, drawn alike at every start; of all if there are fewer."""
    total = len(dataset)
    chosen = range(total) if total <= number else sorted(random.Random(0).sample(range(total), number))
    infos = (dataset.get_data_info(i) for i in chosen)
    return [info for info in infos if isinstance(info, Mapping)]


def image_loader(dataset: Any) -> Any:
    """Return the step that reads a data set's images as mmcv does; None if there is none."""
    for step in steps_of(getattr(dataset, 'pipeline', None)):
        if isinstance(step, LoadImageFromFile) and type(step).transform.__qualname__ == 'LoadImageFromFile.transform':
            return step
    return None


def paths_in(infos: Sequence[Mapping], key: str) -> list[str]:
    """Return the paths under a key that are this machine's, each once."""
    return [*dict.fromkeys(str(info[key]) for info in infos if is_local(info.get(key)))]


def missing_of(paths: Sequence[str]) -> list[str]:
    """Return the paths that are not there, by listing each folder once."""
    folders: dict[str, set[str]] = {}
    absent = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            try:
                folders[folder] = set(os.listdir(folder or '.'))
            except OSError:
                folders[folder] = set()
        if name not in folders[folder]:
            absent.append(path)
    return absent


def refusals(paths: Sequence[str], look: Callable[[str], None], seconds: float = math.inf) -> list[InputError]:
    """Return what is said against files; at least ``DECODED`` are looked at, and more while there is time."""
    found, end = [], time.monotonic() + seconds
    for i, path in enumerate(paths):
        if i >= DECODED and time.monotonic() > end:
            break
        try:
            look(path)
        except InputError as error:
            found.append(error)
        except OSError as error:
            found.append(InputError(f'{path}: {error.strerror or error}'))
    return found


def check_files(dataset: Any, what: str) -> list[str]:
    """Look for the images and label maps of a part of the data, and into some of them.

    All files are looked for, up to ``LISTED`` a data set; head and end are read of ``OPENED``, and as many are decoded
    as ``SECONDS`` allow.

    Args:
        dataset: mmengine's, or one that wraps such; what does not read files as mmcv does is left alone.
        what: its part, for messages.

    Returns:
        Remarks that are no reason to stop.

    Raises:
        InputError: files are missing, cut short, no images, or of bits that the loader would throw away; the message
            has their number, and names the first.
    """
    remarks: list[str] = []
    for leaf in leaves_of(dataset):
        loader, of_labels = image_loader(leaf), label_loader(leaf)
        loader = loader if loader is not None and reads_disk(loader) else None
        of_labels = of_labels if of_labels is not None and reads_disk(of_labels) else None
        if loader is None and of_labels is None:
            continue
        try:
            infos = infos_of(leaf, LISTED)
        except Exception as error:
            if is_own_fault(error):
                raise
            continue  # what a stranger's data set does here is met again when its samples are read
        needed = of_labels is not None and not type(of_labels)._load_seg_map.__module__.startswith('mmdet.')
        if needed and infos and not any(info.get('seg_map_path') for info in infos):
            raise InputError(f'the {what} data have no label maps: data_prefix.seg_map_path says where they are')
        images = paths_in(infos, 'img_path') if loader is not None else []
        maps = paths_in(infos, 'seg_map_path') if of_labels is not None else []
        for paths, name in ((images, 'images'), (maps, 'label maps')):
            absent = missing_of(paths)
            if absent:
                raise InputError(_missing(absent, len(paths), what, name, leaf))
        looked = _look(images, what, 'images')
        _look(maps, what, 'label maps', partial(check_label_file, step=of_labels))
        if loader is not None:
            check_depth(looked, loader, what)
            remarks += clear_pixels(looked[:DECODED], loader, what)
        if images and len(infos) >= OPENED:
            remarks.append(
                f'{what}: {len(images):,} of {len(leaf):,} images are there, {len(looked):,} of them were opened'
            )
    return remarks


def _missing(absent: Sequence[str], total: int, what: str, name: str, leaf: Any) -> str:
    text = f'{len(absent):,} of the {total:,} {name} of the {what} data are not there, {absent[0]} for one'
    if name == 'label maps':
        ending = getattr(leaf, 'seg_map_suffix', None)
        text += f' (seg_map_suffix={ending!r})' if ending else ''
        if len(absent) == total and what == 'test':
            text += '; for test data without labels: test_dataloader.dataset.data_prefix.seg_map_path=None'
    return text


def _look(paths: Sequence[str], what: str, name: str, look: Callable[[str], None] | None = None) -> list[str]:
    """Look into some of the files, and return those."""

    def both(path: str) -> None:
        if look is not None:
            look(path)
        check_whole(path)

    mixed = random.Random(0).sample(list(paths), min(len(paths), OPENED))
    refused = refusals(mixed, both)
    if not refused:
        refused = refusals(mixed, partial(check_whole, decode=True), SECONDS)
    if len(refused) > 1:
        raise InputError(f'{refused[0]}; {len(refused):,} of {len(mixed):,} {name} of the {what} data are refused')
    if refused:
        raise refused[0]
    return mixed


def check_depth(paths: Sequence[str], loader: Any, what: str) -> None:
    """Refuse pictures of 10, 12 or 14 bits in files of 16, of which a loader of bytes keeps the upper eight.

    Raises:
        InputError: all of them are such.
    """
    if not str(getattr(loader, 'color_type', 'color')).startswith(('color', 'grayscale')):
        return
    heads = [(path, read_head(path)) for path in paths[:OPENED]]
    deep = [path for path, head in heads if head.bits == 16][:DECODED]
    if not deep:
        return
    highest = max(highest_value(path) for path in deep)
    if highest >> 8 < LEVELS - 1:
        bits = max(9, highest.bit_length())
        raise InputError(
            f'{deep[0]} and other images of the {what} data have {bits} bits in files of 16 (highest value {highest:,} '
            f'of 65,535): read as they are, {(highest >> 8) + 1} levels are left of {highest + 1:,}; load them with '
            f"dict(type='LoadDeepImage', bits={bits}) in the place of LoadImageFromFile"
        )


def clear_pixels(paths: Sequence[str], loader: Any, what: str) -> list[str]:
    """Return a remark if pictures have pixels through which one could see: their colours are taken as they are."""
    if not str(getattr(loader, 'color_type', 'color')).startswith(('color', 'grayscale')):
        return []
    found = []
    for path in paths:
        head = read_head(path)
        if head.mode in ('RGBA', 'LA', 'PA', 'P') and has_clear_pixels(path):
            found.append(path)
    if not found:
        return []
    return [
        f'warning: {found[0]} and {len(found) - 1} more of {len(paths)} images of the {what} data have transparent '
        'pixels: the colours beneath them are used; flatten the files if those mean nothing'
    ]
