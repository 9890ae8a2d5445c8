"""Labels to ignore: do all places that say which one say the same?"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from qsdt_mm.datasets.label_files import steps_of
from qsdt_mm.datasets.labels import parts_of
from qsdt_mm.errors import InputError

from .cfg_options import resolve_type

NAMES = ('ignore_index', 'ignore_label', 'seg_pad_val')
"""Names in the libraries of the label of pixels that are left out, and of the label that they pad with."""
ROOTS = (
    *('data_preprocessor', 'model', 'train_dataloader'),
    *('val_dataloader', 'val_evaluator', 'test_dataloader', 'test_evaluator'),
)


def void_of(part: Any, name: str) -> dict[str, int]:
    """Return what a built step, metric or module, or the arguments of one, says of labels to ignore, by argument.

    What has no effect says nothing: a crop that takes any crop, a data set's own note.

    Args:
        part: attributes or arguments, all of them, defaults too.
        name: of its class.
    """

    def get(key: str) -> Any:
        return part.get(key) if isinstance(part, Mapping) else getattr(part, key, None)

    if name.startswith('BioMedical3D'):  # pads with background, on purpose
        return {}
    found = {key: get(key) for key in NAMES}
    if name == 'RandomCrop' and get('cat_max_ratio') in (None, 1, 1.0):
        found.pop('ignore_index')
    if name == 'Pad' and isinstance(get('pad_val'), Mapping):
        found['pad_val.seg'] = get('pad_val').get('seg', 255)
    elif name == 'Pad' and isinstance(part, Mapping):
        found['pad_val'] = 255  # a number is the image's
    if name == 'RandomCutOut':
        found['seg_fill_in'] = get('seg_fill_in')
    return {key: int(value) for key, value in found.items() if isinstance(value, (int, float)) and value == int(value)}


def in_config(cfg: Mapping) -> dict[str, int]:
    """Return the labels to ignore that a configuration names, or leaves to the defaults of its classes, by place."""
    found: dict[str, int] = {}

    @functools.cache
    def kinds(name: Any) -> list[Any]:
        found = resolve_type(name, cfg.get('default_scope'))
        return [kind.find() if hasattr(kind, 'find') else kind for kind in found]

    def walk(node: Any, path: str) -> None:
        if isinstance(node, Mapping):
            if 'type' in node:
                own = dict(node)
                for kind in kinds(node['type'])[:1]:
                    if not _is_data_set(kind):
                        own = {**_defaults(kind), **own}
                    for key, value in void_of(own, getattr(kind, '__name__', '')).items():
                        found[f'{path}.{key}'] = value
                    if own.get('reduce_zero_label') and not _is_data_set(kind):
                        found[f'{path}.reduce_zero_label'] = 255
            for key, value in node.items():
                walk(value, f'{path}.{key}')
        elif isinstance(node, (list, tuple)):
            for i, item in enumerate(node):
                name = item.get('type') if isinstance(item, Mapping) else None
                walk(item, f'{path}.{i}' + (f' ({name})' if isinstance(name, str) else ''))

    for root in ROOTS:
        if cfg.get(root) is not None:
            walk(cfg[root], root)
    return found


def _is_data_set(kind: Any) -> bool:
    return hasattr(kind, 'METAINFO')


def _defaults(kind: Any) -> dict[str, Any]:
    """Return the defaults of a class's arguments, its bases' among them."""
    found: dict[str, Any] = {}
    for one in reversed(kind.__mro__ if inspect.isclass(kind) else [kind]):
        try:
            parameters = inspect.signature(one.__init__ if inspect.isclass(one) else one).parameters.values()
        except (TypeError, ValueError):
            continue
        found.update({p.name: p.default for p in parameters if p.default is not p.empty})
    return found


def in_parts(model: nn.Module, loops: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the labels to ignore that built parts use, by place.

    Args:
        model: the network.
        loops: by their part of the data.
    """
    for path, module in model.named_modules():
        for key, value in void_of(module, type(module).__name__).items():
            yield f'model.{path}.{key}', value
    for what, loop in loops.items():
        for part in parts_of(loop.dataloader.dataset):
            name = f'{what}_dataloader, {type(part).__name__}'
            for step in steps_of(getattr(part, 'pipeline', None)):
                for key, value in void_of(step, type(step).__name__).items():
                    yield f'{name}, {type(step).__name__}.{key}', value
            meta = getattr(part, 'metainfo', None) or {}
            if meta.get('reduce_zero_label'):
                yield f'{name}, reduce_zero_label', 255
            if 255 in (meta.get('label_map') or {}).values():
                yield f'{name}, classes that metainfo leaves out', 255
        for metric in getattr(getattr(loop, 'evaluator', None), 'metrics', []):
            for key, value in void_of(metric, type(metric).__name__).items():
                yield f'{what}_evaluator, {type(metric).__name__}.{key}', value


def check_void_labels(cfg: Mapping, model: nn.Module, loops: Mapping[str, Any]) -> None:
    """Refuse a segmenter whose parts do not ignore the same label.

    One that differs trains on what means nothing, pads with a class, or scores what should not count; or it ends the
    run at the first padded crop, on a GPU in an assertion.

    Args:
        cfg: the configuration; what is not built is looked up there, the test's part while training.
        model: the network.
        loops: that are built, by ``'train'``, ``'val'``, ``'test'``.

    Raises:
        InputError: they differ; the message has the places by label.
    """
    head = getattr(model, 'decode_head', None)
    if head is None:
        return
    written = in_config(cfg)
    built = {place: value for place, value in in_parts(model, loops) if value not in written.values()}
    places: dict[int, list[str]] = {}
    for place, value in {**written, **built}.items():
        places.setdefault(value, []).append(place)
    if len(places) < 2:
        first = head[0] if isinstance(head, nn.ModuleList) else head
        if 255 in places and (getattr(first, 'num_classes', None) or 0) > 255:
            raise InputError(
                f'label 255 is ignored ({places[255][0]}), and is one of the {first.num_classes} classes: give '
                'ignore_index=65535 and seg_pad_val=65535 everywhere'
            )
        return
    said = '; '.join(
        f'{value} in {", ".join(found[:4])}' + (f' and {len(found) - 4} more places' if len(found) > 4 else '')
        for value, found in sorted(places.items(), key=lambda pair: len(pair[1]))
    )
    raise InputError(f'the label to ignore has to be the same everywhere, and is {said}')
