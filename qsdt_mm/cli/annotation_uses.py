"""Readers of each annotation file in a run: the data sets, wrapped ones too, and the metrics of a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsdt_mm.datasets.coco_files import needs_outlines

from .cfg_options import resolve_type


@dataclass(frozen=True)
class Use:
    """One use of a COCO file.

    Args:
        split: 'train', 'val' or 'test'.
        file: its path.
        metric: whether a metric uses it, rather than a data set.
        classes: names that must be among its categories.
        given: whether the configuration names them, rather than the data set's class.
        outlines: whether masks are made of its outlines.
        bitmaps: whether run-length codes are read, too.
        scored: whether results are compared with it.
        plain: whether its annotations are read as mmdet's ``CocoDataset`` does.
        ordered: whether labels follow the order of its categories.
        segments: whether it is of panoptic segmentation, whose annotations are others.
        names: keys of which one names the file of an image.

    >>> Use('train', 'instances.json', outlines=True).scored
    True
    """

    split: str
    file: str
    metric: bool = False
    classes: tuple[str, ...] = ()
    given: bool = False
    outlines: bool = False
    bitmaps: bool = True
    scored: bool = True
    plain: bool = True
    ordered: bool = True
    segments: bool = False
    names: tuple[str, ...] = ('file_name',)


def data_sets(config: Any) -> Iterator[Mapping]:
    """Yield the configurations of a data set, or of those that it wraps."""
    if isinstance(config, Mapping):
        inner = [config[key] for key in ('dataset', 'datasets') if config.get(key) is not None]
        if 'type' in config and not inner:
            yield config
        for one in inner:
            yield from data_sets(one)
    elif isinstance(config, (list, tuple)):
        for item in config:
            yield from data_sets(item)


def metrics_of(cfg: Any, split: str) -> list[Any]:
    """Return the configurations of a split's metrics."""
    found = cfg.get(f'{split}_evaluator')
    if isinstance(found, Mapping) and 'metrics' in found:
        found = found['metrics']
    return [one for one in (found if isinstance(found, (list, tuple)) else [found]) if one is not None]


def kinds_of(config: Any, scope: str | None) -> list[type]:
    """Return the classes that a configuration may name, and their bases."""
    found = resolve_type(config.get('type'), scope) if isinstance(config, Mapping) else []
    return [kind for one in found for kind in getattr(one, '__mro__', ())]


def path_of(config: Mapping, kinds: list[type]) -> str | None:
    """Return the annotation file of a data set; what its configuration does not say, its class does."""
    said = {}
    for key in ('ann_file', 'data_root'):
        said[key] = config.get(key)
        if said[key] is None and kinds:
            default = getattr(inspect.signature(kinds[0]).parameters.get(key), 'default', None)
            said[key] = default if isinstance(default, str) else None
    return str(Path(str(said['data_root'] or '')) / str(said['ann_file'])) if said['ann_file'] else None


def _loading(config: Any) -> Iterator[Mapping]:
    """Yield the steps of a pipeline that load masks."""
    if isinstance(config, Mapping):
        if config.get('with_mask'):
            yield config
        for value in config.values():
            yield from _loading(value)
    elif isinstance(config, (list, tuple)):
        for item in config:
            yield from _loading(item)


def _classes(config: Mapping, kinds: list[type]) -> tuple[tuple[str, ...], bool]:
    meta = config.get('metainfo')
    given = meta.get('classes') if isinstance(meta, Mapping) else None
    if isinstance(given, str):  # mmengine reads a file that is there; else the word is the one class
        lines = Path(given).read_text(encoding='utf-8').splitlines() if Path(given).is_file() else [given]
        given = [line for line in lines if line]
    known = [getattr(kind, 'METAINFO', None) or {} for kind in kinds]
    names = given or next((meta['classes'] for meta in known if meta.get('classes')), ())
    return tuple(str(name) for name in names), bool(given)


def coco_uses(cfg: Any, split: str) -> list[Use]:
    """Return who uses COCO files in a split; addresses (``s3://...``) are left out."""
    scope, uses = cfg.get('default_scope'), []
    for config in data_sets((cfg.get(f'{split}_dataloader') or {}).get('dataset')):
        kinds = kinds_of(config, scope)
        names = [kind.__name__ for kind in kinds]
        path = path_of(config, kinds) if 'CocoDataset' in names else None
        if path is None or '://' in path:
            continue
        classes, given = _classes(config, kinds)
        readers = [getattr(kinds[0], name, None) for name in ('load_data_list', 'parse_data_info')]
        uses.append(
            Use(
                split,
                path,
                classes=classes,
                given=given,
                outlines=needs_outlines(config.get('pipeline')),
                bitmaps=all(step.get('poly2mask', True) for step in _loading(config.get('pipeline'))),
                plain=all(getattr(one, '__module__', '').startswith('mmdet.') for one in readers),
                ordered=getattr(readers[0], '__qualname__', '') == 'CocoDataset.load_data_list',
                segments='CocoPanopticDataset' in names,
                names=('file_name', 'coco_url') if 'LVISV1Dataset' in names else ('file_name',),
            )
        )
    read = [use for use in uses if not use.segments]
    for config in metrics_of(cfg, split):
        if not isinstance(config, Mapping) or not config.get('ann_file') or '://' in str(config['ann_file']):
            continue
        names = [kind.__name__ for kind in kinds_of(config, scope)]
        if 'CocoMetric' not in names:
            continue
        wanted = config.get('metric', 'bbox')
        uses.append(
            Use(
                split,
                str(config['ann_file']),
                metric=True,
                classes=read[0].classes if read else (),
                outlines='segm' in ([wanted] if isinstance(wanted, str) else wanted),
                scored=not config.get('format_only'),
                plain=all(use.plain for use in read),
                ordered=False,
                names=('file_name', 'coco_url') if 'LVISMetric' in names else ('file_name',),
            )
        )
    return uses


def list_files(cfg: Any, split: str) -> Iterator[str]:
    """Yield the lists of images that mmpretrain's ``CustomDataset`` reads in a split."""
    for config in data_sets((cfg.get(f'{split}_dataloader') or {}).get('dataset')):
        if config.get('ann_file') and config.get('with_label', True):
            kinds = kinds_of(config, cfg.get('default_scope'))
            if 'CustomDataset' in {kind.__name__ for kind in kinds}:
                yield str(Path(str(config.get('data_root') or '')) / str(config['ann_file']))
