"""Label maps as files: what a loader would read wrong, or not at all, is said with the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations
from PIL import Image

from qsdt_mm.errors import InputError

from .image_files import is_local, read_head, reads_disk

TOOL = 'tools/dataset_converters/colours_to_labels.py'
STOCK = ('LoadAnnotations._load_seg_map', 'LoadLabelMap._load_seg_map')
"""Steps that read label maps, of the libraries and by :class:`qsdt_mm.datasets.label_loading.LoadLabelMap`."""

WRAPS = ('mmseg.', 'mmcv.')  # mmseg's loader makes bytes of all values; mmcv stands for no loader
BACKENDS = (None, 'pillow', 'cv2')


def loads_labels(step: Any) -> bool:
    """Return whether a step of a pipeline reads label maps as the libraries do."""
    return (
        isinstance(step, LoadAnnotations)
        and getattr(step, 'with_seg', False)
        and getattr(type(step)._load_seg_map, '__qualname__', '') in STOCK
        and getattr(type(step).transform, '__qualname__', '') == 'LoadAnnotations.transform'  # not panoptic ones
    )


def steps_of(pipeline: Any) -> Iterator[Any]:
    """Yield the steps of a pipeline, and those inside of them."""
    if isinstance(pipeline, (list, tuple)):
        for step in pipeline:
            if not isinstance(step, (list, tuple)):
                yield step
            yield from steps_of(step)
        return
    for name in ('transforms', 'subroutines'):
        held = getattr(pipeline, name, None)
        yield from steps_of(held) if held is not None else ()


def label_loader(dataset: Any) -> Any:
    """Return the step that reads a data set's label maps; None if there is none."""
    return next((step for step in steps_of(getattr(dataset, 'pipeline', None)) if loads_labels(step)), None)


def describe_colours(values: np.ndarray) -> str:
    """Say what an image with channels is, for a message that refuses it as a label map."""
    if values.ndim == 3 and values.shape[2] >= 3 and (values[..., :3] == values[..., :1]).all():
        return (
            f'holds colours: {values.shape[2]} channels, the first three of them equal. A label map has one: '
            f'{TOOL} --grey keeps it'
        )
    return (
        f'holds colours ({values.shape[-1]} channels): a label map has one, the number of the class. '
        f'{TOOL} turns colours into numbers'
    )


def check_label_file(path: str | Path, step: Any = None) -> None:
    """Refuse a label map that a loader would read as something else.

    Args:
        path: the file; those of other storages pass.
        step: the loader; mmseg's own if None.

    Raises:
        InputError: it is missing or no image, a JPEG file, one of colours, or has values that do not fit a byte.
    """
    if not (is_local(path) and reads_disk(step)) or getattr(step, 'imdecode_backend', None) not in BACKENDS:
        return
    head = read_head(path)
    if not head.format:
        return
    if head.format in ('JPEG', 'MPO'):
        raise InputError(
            f'{path} is a JPEG file, which changes labels a little all over the image: label maps have to be png'
        )
    flat = head.mode in ('L', '1', 'I', 'F') or head.mode.startswith('I;')
    if head.mode == 'P' and getattr(step, 'imdecode_backend', 'pillow') == 'cv2':
        raise InputError(
            f"{path} has a palette, and imdecode_backend='cv2' reads its colours: leave imdecode_backend out to read "
            'its labels'
        )
    if not flat and head.mode != 'P':
        raise InputError(f'{path} {describe_colours(_values(path))}')
    if head.bits > 8 and head.mode not in ('P', '1'):
        values = _values(path)
        if (values != np.floor(values)).any():
            raise InputError(f'{path} holds fractions, {values[values != np.floor(values)].flat[0]:g} for instance')
        highest, lowest = int(values.max(initial=0)), int(values.min(initial=0))
        deep = not getattr(step, '_load_seg_map', LoadAnnotations).__module__.startswith(WRAPS)
        if highest > (65535 if deep else 255) or lowest < 0:
            worst = lowest if lowest < 0 else highest
            raise InputError(
                f'{path} holds the label {worst} in {head.bits} bits, which would be read as {worst % 256}: write '
                "labels of 0 to 255, or load them with dict(type='LoadLabelMap', mapping={VALUE: LABEL, ...})"
            )


def _values(path: str | Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.array(image)
    except Exception as error:
        raise InputError(f'{path} is damaged ({" ".join(str(error).split())[:80]})') from error
