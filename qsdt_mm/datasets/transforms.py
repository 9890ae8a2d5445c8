"""Steps of data pipelines."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile

from qsdt_mm.errors import InputError, require, require_positive_int


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


class LoadDeepImage(LoadImageFromFile):
    """Loads pictures of more than eight bits as values of 0 to 255 with fractions: ``img = 255 v / (2^bits - 1)``.

    In the place of ``LoadImageFromFile``, where 12-bit pictures in 16-bit files would become sixteen levels of grey.
    Grey pictures get three equal channels, so that a configuration for colours needs no other change.

    Args:
        bits: of a pixel's channel in the file, 1 to 16.
        **kwargs: of mmcv's class.

    Raises:
        ValueError: ``bits`` is out of range.
        InputError: a file has higher values, or other channels than one or three.

    >>> LoadDeepImage(bits=12).bits
    12
    """

    def __init__(self, bits: int, **kwargs: Any) -> None:
        require_positive_int('bits', bits)
        require(bits <= 16, 'bits', bits, 'an integer from 1 to 16')
        super().__init__(**{'color_type': 'unchanged', **kwargs})
        self.bits = bits

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``img``, ``(H, W, 3)`` of float32."""
        results = super().transform(results)
        image, highest, file = results['img'], 2**self.bits - 1, results.get('img_path', 'a picture')
        if image.max(initial=0) > highest:
            raise InputError(f'{file} has the value {image.max()}: bits={self.bits} go up to {highest}')
        if image.ndim == 2:
            image = cv2.merge([image] * 3)
        if image.shape[2] != 3:
            raise InputError(f'{file} has {image.shape[2]} channels: expected 1 or 3')
        results['img'] = image.astype(np.float32) * (255 / highest)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(bits={self.bits}, {super().__repr__()})'
