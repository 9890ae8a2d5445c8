"""Label maps whose values are no class numbers yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmseg.datasets.transforms import LoadAnnotations

from qsdt_mm.errors import InputError, require


class LoadLabelMap(LoadAnnotations):
    """Loads label maps of 8 or 16 bits, and changes values on the way; in the place of mmseg's ``LoadAnnotations``.

    Masks of 0 and 255, for instance: ``dict(type='LoadLabelMap', mapping={255: 1})``.

    Args:
        mapping: labels by the value in the file; other values stay.
        **kwargs: of mmseg's class.

    Raises:
        ValueError: a value or label is no integer from 0 to 65,535.

    >>> LoadLabelMap(mapping={255: 1}).mapping
    {255: 1}
    """

    def __init__(self, mapping: Mapping[int, int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mapping = {}
        for pair in (mapping or {}).items():
            try:  # keys are words where the configuration came through JSON
                value, label = (int(number) for number in pair)
            except (TypeError, ValueError):
                value = label = -1
            require(0 <= value <= 65535 and 0 <= label <= 65535, 'mapping', mapping, 'integers from 0 to 65535')
            self.mapping[value] = label

    def _load_seg_map(self, results: dict[str, Any]) -> None:
        """Add ``gt_seg_map``, ``(H, W)``, of bytes if all labels fit, else of 16 bits."""
        if results.get('reduce_zero_label') or self.reduce_zero_label:
            raise InputError('LoadLabelMap has no reduce_zero_label: give mapping={0: 255, 1: 0, 2: 1, ...}')
        data = fileio.get(results['seg_map_path'], backend_args=self.backend_args)
        values = mmcv.imfrombytes(data, flag='unchanged', backend=self.imdecode_backend).squeeze().astype(np.int64)
        for mapping in (self.mapping, results.get('label_map') or {}):
            before = values.copy()
            for value, label in mapping.items():
                values[before == value] = label
        results['gt_seg_map'] = values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)
        results['seg_fields'].append('gt_seg_map')

    def __repr__(self) -> str:
        return f'{type(self).__name__}(mapping={self.mapping}, imdecode_backend={self.imdecode_backend!r})'
