"""Test images of one size alone: plans take one, and data sets have many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qsdt_mm.errors import InputError, one_line

LIBRARIES = ('mmpretrain', 'mmseg')


def keep_images_of_size(cfg: Any, size: Sequence[int]) -> str:
    """Leave out test images of other sizes, in a configuration, and return how many are left, as a remark.

    Args:
        cfg: the configuration, whose ``test_dataloader.dataset.indices`` are set.
        size: height and width of files, before any transform.

    Raises:
        InputError: the images cannot be looked at, or none has the size.
    """
    from mmengine.registry import DATASETS, DefaultScope
    from PIL import Image

    scope, settings = cfg.get('default_scope'), cfg.test_dataloader.dataset
    if scope not in LIBRARIES:
        raise InputError(f'--image-size goes with {" and ".join(LIBRARIES)}, whose metrics look at the images shown')
    with DefaultScope.overwrite_default_scope(scope):
        try:
            dataset = DATASETS.build(settings)
            files = [dataset.get_data_info(i).get('img_path') for i in range(len(dataset))]
            kept = []
            for i, file in enumerate(files):
                with Image.open(file) as image:
                    if image.size == tuple(reversed(size)):
                        kept.append(i)
        except Exception as error:  # of whatever reads the data
            raise InputError(f'--image-size: the test images cannot be looked at: {one_line(error)[:300]}') from error
    shown = ' x '.join(map(str, size))
    if not kept:
        raise InputError(f'--image-size: none of the {len(files)} test images is of {shown}')
    before = settings.get('indices')
    settings.indices = [before[i] for i in kept] if isinstance(before, (list, tuple)) else kept
    return f'{len(kept)} of {len(files)} test images are of {shown}: the others are left out'
