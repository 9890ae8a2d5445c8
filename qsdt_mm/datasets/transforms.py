"""Steps of data pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from qsdt_mm.errors import InputError, require_positive_int


class CheckLabels(BaseTransform):
    """Refuses a segmentation map with labels outside the classes; to be put after ``LoadAnnotations``.

    A label beyond the classes otherwise ends as an error of the loss, or on a GPU as a crash that names nothing. A
    picture without a map, as mmseg's inferencers give it, passes.

    Args:
        num_classes: labels are 0 to ``num_classes - 1``.
        ignore_index: the label of pixels to ignore.

    Raises:
        ValueError: ``num_classes`` is not a positive integer.
        InputError: a map has another label; the message names the file and the label.

    >>> CheckLabels(num_classes=2)(dict(gt_seg_map=np.array([[0, 7]]), seg_map_path='cat.png'))
    Traceback (most recent call last):
        ...
    qsdt_mm.errors.InputError: cat.png has the label 7: expected 0 to 1, or 255 for pixels to ignore
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        require_positive_int('num_classes', num_classes)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Look at ``gt_seg_map``, if there is one; results pass unchanged."""
        if 'gt_seg_map' not in results:
            return results
        labels = np.flatnonzero(np.bincount(results['gt_seg_map'].ravel().astype(np.int64)))
        outside = labels[(labels >= self.num_classes) & (labels != self.ignore_index)]
        if len(outside):
            file = results.get('seg_map_path', 'a segmentation map')
            raise InputError(
                f'{file} has the label {outside[0]}: expected 0 to {self.num_classes - 1}, or {self.ignore_index} '
                'for pixels to ignore'
            )
        return results
