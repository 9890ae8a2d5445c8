"""Handwritten digits that come with scikit-learn: real images, and nothing to download."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmpretrain.datasets import BaseDataset

from qsdt_mm.errors import InputError, require

HELD_OUT = 5  # one digit in so many is kept for testing


class Digits(BaseDataset):
    """1,797 handwritten digits of 8 x 8 pixels and 16 grey levels, from the UCI repository's test set.

    Of each class every fifth image, in the file's order, is held out: 1,442 images to train on and 355 to test on. Both
    hold digits of the same 13 writers.

    A sample's ``img`` is ``(8, 8, 1)`` uint8 from 0 to 240, as ``LoadImageFromFile`` would give it.

    Args:
        split: 'train' or 'test'.
        kwargs: those of mmpretrain's ``BaseDataset``.

    Raises:
        ValueError: ``split`` is neither.
        InputError: scikit-learn is not installed.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI machine learning repository (1998).

    >>> digits = Digits(split='test')
    >>> len(digits), digits[0]['img'].shape, digits[0]['gt_label']
    (355, (8, 8, 1), 5)
    """

    METAINFO = dict(classes=tuple('0123456789'))

    def __init__(self, split: str = 'train', **kwargs: Any) -> None:
        require(split in ('train', 'test'), 'split', split, 'train or test')
        self.split = split
        super().__init__(ann_file='', test_mode=split == 'test', **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return the images and labels of the split."""
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError as error:
            raise InputError('Digits needs scikit-learn, which is not installed: pip install scikit-learn') from error
        digits = load_digits()
        images = (digits.images * 15).astype(np.uint8)[..., None]
        seen = np.zeros(10, dtype=int)
        samples = []
        for image, label in zip(images, digits.target.tolist()):
            seen[label] += 1
            if (seen[label] % HELD_OUT == 0) == (self.split == 'test'):
                samples.append(dict(img=image, gt_label=label))
        return samples
