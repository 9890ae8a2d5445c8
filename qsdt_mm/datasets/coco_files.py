"""COCO files that are parsed once: data set and metric get what the checks before a run have read.

mmdet's data sets name the class that reads their file (``CocoDataset.COCOAPI``). For the time in which one is built it
is of a subclass of its own class, whose reader takes the parsed file and leaves out what nobody can learn from.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS, METRICS, Registry

from .labels import parts_of


@dataclass
class ParsedFile:
    """Content of a COCO file, and which of its annotations are left out.

    Args:
        held: the file's content.
        no_box: indices of annotations whose box has no width or height.
        no_outline: indices of those that have no outline; only who needs outlines does without them.
        trimmed: outlines of which some parts are left out, by the index of the annotation.

    >>> parsed = ParsedFile(dict(annotations=[dict(id=1), dict(id=2)]), no_box={0})
    >>> parsed.content(outlines=False)['annotations']
    [{'id': 2}]
    """

    held: dict
    no_box: set[int] = field(default_factory=set)
    no_outline: set[int] = field(default_factory=set)
    trimmed: dict[int, list] = field(default_factory=dict)
    uses: int = 1

    def content(self, outlines: bool) -> dict:
        """Return what is used of the file, for boxes alone or for boxes with outlines."""
        left_out = self.no_box | self.no_outline if outlines else self.no_box
        trimmed = self.trimmed if outlines else {}
        if not left_out and not trimmed:
            return self.held
        rows = [
            {**row, 'segmentation': trimmed[i]} if i in trimmed else row
            for i, row in enumerate(self.held['annotations'])
            if i not in left_out
        ]
        return {**self.held, 'annotations': rows}


_PARSED: dict[tuple, ParsedFile] = {}


def _key(path: str | Path) -> tuple:
    """Return what tells a file, as it is now, from others and from what it was or will be."""
    status = os.stat(path)
    return os.path.realpath(path), status.st_mtime_ns, status.st_size


def hand_over(path: str | Path, parsed: ParsedFile) -> None:
    """Keep a parsed file for so many who will ask for it; the last one takes it along."""
    _PARSED[_key(path)] = parsed


def forget() -> None:
    """Drop what nobody has asked for."""
    _PARSED.clear()
    gc.unfreeze()


def take(path: str | Path) -> ParsedFile | None:
    """Return a file that was parsed and has not changed since, None if there is none."""
    try:
        key = _key(path)
    except OSError:
        return None
    parsed = _PARSED.get(key)
    if parsed is not None:
        parsed.uses -= 1
        if parsed.uses <= 0:
            del _PARSED[key]
    return parsed


def needs_outlines(config: Any) -> bool:
    """Return whether a pipeline, or anything else in a configuration, loads masks."""
    if isinstance(config, Mapping):
        return bool(config.get('with_mask')) or any(map(needs_outlines, config.values()))
    return isinstance(config, (list, tuple)) and any(map(needs_outlines, config))


def reader(api: type, outlines: bool) -> type:
    """Return a subclass of a COCO class that takes a parsed file where there is one, and else reads as ever."""

    class Reader(api):
        def __init__(self, annotation_file: Any = None) -> None:
            parsed = None if annotation_file is None else take(annotation_file)
            super().__init__(annotation_file if parsed is None else None)
            if parsed is not None:
                self.dataset = parsed.content(outlines)
                with contextlib.redirect_stdout(None):
                    self.createIndex()
                self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    return Reader


def _class_of(registry: Registry, config: Mapping) -> Any:
    kind = config.get('type')
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(None) as scoped:
            kind = scoped.get(kind)
    return kind if inspect.isclass(kind) else None


def reading_once(config: Any) -> Any:
    """Return a data set's configuration whose COCO data sets, wrapped ones too, take parsed files.

    To be built in the scope of its library, and to be passed to :func:`as_configured` then.
    """
    if not _PARSED or not isinstance(config, (Mapping, list, tuple)):
        return config
    if not isinstance(config, Mapping):
        return [reading_once(item) for item in config]
    config = copy.copy(config)
    for key in ('dataset', 'datasets'):
        if key in config:
            config[key] = reading_once(config[key])
    kind = _class_of(DATASETS, config)
    if inspect.isclass(getattr(kind, 'COCOAPI', None)):
        api = reader(kind.COCOAPI, needs_outlines(config.get('pipeline')))
        names = dict(COCOAPI=api, __module__=kind.__module__, __qualname__=kind.__qualname__, built_as=kind)
        config['type'] = type(kind.__name__, (kind,), names)
    return config


def as_configured(dataset: Any) -> Any:
    """Give the parts of a data set that has been built the classes that its configuration names; return it."""
    for part in parts_of(dataset):
        if 'built_as' in vars(type(part)):
            part.__class__ = type(part).built_as
    return dataset


def metric_reading_once(config: Any) -> Any:
    """Return a COCO metric, built with the parsed file of its ``ann_file``; any other configuration as it is."""
    path = config.get('ann_file') if isinstance(config, Mapping) else None
    if not path or not _PARSED or config.get('sort_categories'):
        return config
    kind = _class_of(METRICS, config)
    bases = [base for base in getattr(kind, '__mro__', ()) if base.__name__ == 'CocoMetric']
    if not bases or kind.__init__ is not bases[0].__init__:
        return config
    from mmdet.datasets.api_wrappers import COCO

    metrics = config.get('metric', 'bbox')
    metric = METRICS.build({key: value for key, value in config.items() if key != 'ann_file'})
    metric._coco_api = reader(COCO, 'segm' in ([metrics] if isinstance(metrics, str) else metrics))(str(path))
    return metric
