"""Settings of data sets that a configuration inherits and does not mean."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any


def data_sets_of(config: Any) -> Iterator[MutableMapping]:
    """Yield the configurations of data sets in that of a loader, wrapped ones too."""
    if isinstance(config, MutableMapping):
        if 'type' in config:
            yield config
        for key in ('dataset', 'datasets'):
            yield from data_sets_of(config.get(key))
    elif isinstance(config, (list, tuple)):
        for item in config:
            yield from data_sets_of(item)


def drop_unmeant(cfg: Any) -> list[str]:
    """Leave out prefixes that are None, and palettes of other numbers of colours than there are classes.

    mmengine does not take None where there are no such files; a palette that a base has for its own classes stops
    mmseg, which draws one by itself where there is none.

    Args:
        cfg: the configuration, changed in place.

    Returns:
        Remarks on palettes.
    """
    remarks: dict[str, None] = {}
    for part in ('train', 'val', 'test'):
        for config in data_sets_of(cfg.get(f'{part}_dataloader')):
            prefixes, meta = config.get('data_prefix'), config.get('metainfo')
            if isinstance(prefixes, MutableMapping):
                for key in [key for key, prefix in prefixes.items() if prefix is None]:
                    del prefixes[key]
            if not isinstance(meta, MutableMapping):
                continue
            classes, palette = meta.get('classes'), meta.get('palette')
            if not all(isinstance(one, (list, tuple)) for one in (classes, palette)) or len(classes) == len(palette):
                continue
            del meta['palette']
            if palette:
                remarks[
                    f'palette has {len(palette)} colours for {len(classes)} classes, as a base configuration may: left '
                    'out, colours are drawn'
                ] = None
    return [*remarks]
