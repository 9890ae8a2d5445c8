"""Annotation files, checked before a run: what is wrong is said in a line that names the file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qsdt_mm.errors import InputError

from .cfg_options import resolve_type


def check_annotation_files(cfg: Any, *splits: str) -> None:
    """Check the COCO files and lists of images of a configuration, before code reads them that trusts them.

    Args:
        cfg: the configuration.
        splits: which of 'train', 'val', 'test'.

    Raises:
        InputError: a file is missing or malformed; the message names it and the place in it.
    """
    wanted: dict[str, list[str]] = {}
    lists: set[str] = set()
    scope = cfg.get('default_scope')
    for split in splits:
        for config in _data_sets(cfg.get(f'{split}_dataloader')):
            kinds = [c for kind in resolve_type(config.get('type'), scope) for c in getattr(kind, '__mro__', ())]
            file = config.get('ann_file')
            names, root = {kind.__name__ for kind in kinds}, config.get('data_root') or ''
            if file and 'CustomDataset' in names and config.get('with_label', True):
                lists.add(str(Path(str(root)) / str(file)))
            if file and 'CocoDataset' in names:
                meta = config.get('metainfo')
                given = meta.get('classes') if isinstance(meta, Mapping) else None
                known = next((k.METAINFO['classes'] for k in kinds if 'classes' in getattr(k, 'METAINFO', {})), ())
                classes = wanted.setdefault(str(Path(str(root)) / str(file)), [])
                classes += [str(name) for name in ([given] if isinstance(given, str) else given or known)]
        evaluators = cfg.get(f'{split}_evaluator')
        for config in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            if (
                isinstance(config, Mapping)
                and str(config.get('type')).endswith('CocoMetric')
                and config.get('ann_file')
            ):
                wanted.setdefault(str(config['ann_file']), [])
    for file, classes in wanted.items():
        if '://' not in file:
            check_coco_file(file, classes)
    for file in sorted(lists):
        if '://' not in file:
            check_list_file(file)


def check_list_file(path: str | Path) -> None:
    """Check that a file lists images as mmpretrain reads it: lines ``path label``.

    Raises:
        InputError: it does not; the message names the file and the line.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from error
    except UnicodeDecodeError as error:
        raise InputError(f'{path} is not a text file') from error
    if not any(line.strip() for line in lines):
        raise InputError(f'{path} lists no image')
    for i, line in enumerate(lines, 1):
        words = line.strip().rsplit(' ', 1)
        if len(words) != 2 or not words[1].isdecimal():
            raise InputError(f'{path}, line {i}: expected "path label", got {line[:80]!r}')


def _data_sets(config: Any) -> Iterator[Mapping]:
    if isinstance(config, Mapping):
        if 'type' in config and 'ann_file' in config:
            yield config
        for key in ('dataset', 'datasets'):
            yield from _data_sets(config.get(key))
    elif isinstance(config, (list, tuple)):
        for item in config:
            yield from _data_sets(item)


def check_coco_file(path: str | Path, classes: Sequence[str] = ()) -> None:
    """Check that a file holds COCO annotations whose identifiers fit together.

    Args:
        path: the file.
        classes: names that must be among its categories.

    Raises:
        InputError: it does not; the message names the file and the first place that is wrong.
    """
    try:
        with open(path, encoding='utf-8') as file:
            held = json.load(file)
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from error
    except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
        raise InputError(f'{path} is no JSON file: {" ".join(str(error).split())[:120]}') from error

    def rows(name: str) -> list[dict]:
        found = held.get(name) if isinstance(held, dict) else None
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise InputError(f'{path} holds no COCO annotations: expected a list of objects under {name!r}')
        return found

    def identifiers(name: str) -> set:
        seen: set = set()
        for i, row in enumerate(rows(name)):
            key = row.get('id')
            if not isinstance(key, (int, str)) or isinstance(key, bool):
                raise InputError(f'{path}: {name}[{i}] has id {key!r}: expected a number or a word')
            if key in seen:
                raise InputError(f'{path}: {name}[{i}] has id {key!r}, which another has too')
            seen.add(key)
        return seen

    images, categories = identifiers('images'), identifiers('categories')
    identifiers('annotations')
    for i, row in enumerate(held['images']):
        if not isinstance(row.get('file_name'), str) or not row['file_name']:
            raise InputError(f'{path}: images[{i}] has file_name {row.get("file_name")!r}: expected a file')
        for side in ('height', 'width'):
            if not isinstance(row.get(side), int) or isinstance(row[side], bool) or row[side] < 1:
                raise InputError(f'{path}: images[{i}] has {side} {row.get(side)!r}: expected an integer >= 1')
    names = [row.get('name') for row in held['categories']]
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f'{path}: categories[{i}] has name {name!r}: expected a word')
    absent = [name for name in classes if name not in names]
    if absent:
        raise InputError(
            f'{path} has no category {absent[0]!r}, which is among the classes; it has {", ".join(names[:5])}'
            + (', ...' if len(names) > 5 else '')
        )
    sizes = {row['id']: [row['height'], row['width']] for row in held['images']}
    for i, row in enumerate(held['annotations']):
        place = f'{path}: annotations[{i}]'
        for key, known in (('image_id', images), ('category_id', categories)):
            if not isinstance(row.get(key), (int, str)) or isinstance(row[key], bool) or row[key] not in known:
                raise InputError(f'{place} has {key} {row.get(key)!r}, which is not there')
        box, area, shape = row.get('bbox'), row.get('area'), row.get('segmentation')
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            raise InputError(f'{place} has bbox {str(box)[:60]}: expected four numbers')
        if not _is_number(area):
            raise InputError(f'{place} has area {str(area)[:60]}: expected a number')
        if row.get('iscrowd', 0) not in (0, 1):
            raise InputError(f'{place} has iscrowd {row["iscrowd"]!r}: expected 0 or 1')
        polygons = isinstance(shape, list) and all(
            isinstance(part, list) and all(map(_is_number, part)) for part in shape
        )
        mask = isinstance(shape, dict) and {'size', 'counts'} <= set(shape)
        if shape is not None and not polygons and not mask:
            raise InputError(f'{place} has segmentation {str(shape)[:60]}: expected polygons or a mask')
        if mask:
            size = sizes[row['image_id']]
            if shape['size'] != size or not isinstance(shape['counts'], (list, str)):
                raise InputError(f'{place} has a mask of size {shape["size"]}: its image has {size}')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
