"""Sizes of images against those of their annotations, before a run, on a sample of files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qsdt_mm.datasets.labels import parts_below, parts_of
from qsdt_mm.datasets.orientation import UNTURNED, loader_of, size_fault, stored_size
from qsdt_mm.errors import InputError

SAMPLE = 200  # files of each data set, of which the head is read
READ = 8  # of these, photos that EXIF turns are read whole


def check_image_sizes(dataset: Any, sample: int = SAMPLE) -> list[str]:
    """Compare width and height that annotations give with those of the files, as the pipeline reads them.

    Args:
        dataset: mmengine's, or one that wraps such; parts whose annotations give no sizes are left alone.
        sample: the largest number of files of each part, evenly spread.

    Returns:
        Remarks, a line each: photos of which sizes do not tell whether their boxes are of the turned pixels.

    Raises:
        InputError: a file is missing, or has another size; the message names it and the option that helps.
    """
    remarks = []
    for part in parts_of(dataset):
        loader = loader_of(getattr(part, 'pipeline', None))
        if loader is None or next(parts_below(part), None) is not None or getattr(loader, 'backend_args', None):
            continue
        undecided, looked_at, first = 0, 0, None
        for path, said in _sizes(part, sample):
            try:
                stored = stored_size(path)
                turned = stored is not None and stored[1] > 1
                if stored is None or not turned and stored[0] == said:
                    continue
                if not turned or looked_at < READ:  # only the pipeline knows what it makes of such a file
                    looked_at += turned
                    read = _read(loader, path)
                    if read not in (None, said):
                        raise InputError(size_fault(path, read, said))
            except OSError as error:
                raise InputError(f'{path}: {error.strerror or "is no whole image"}') from error
            if turned and (stored[1] < 5 or said[0] == said[1]) and 'ignore' not in str(loader.color_type):
                undecided, first = undecided + 1, first or path
        if undecided:
            remarks.append(
                f'{undecided} photos, {first} among them, are turned or mirrored by EXIF when they are read, and their '
                f'sizes do not tell whether their boxes are of the pixels as stored: if so, use color_type={UNTURNED!r}'
            )
    return remarks


def _read(loader: Any, path: str) -> tuple[int, int] | None:
    """Return height and width of an image as a step of a pipeline reads it, None if it cannot: the run says why."""
    try:
        height, width = loader.transform(dict(img_path=path))['ori_shape'][:2]
    except OSError:
        raise
    except Exception:
        return None
    return height, width


def _sizes(part: Any, sample: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield files of a data set, with height and width by their annotations."""
    try:
        number = len(part)
    except TypeError:
        return
    for i in range(0, number, max(1, -(-number // sample))):
        data = part.get_data_info(i) if hasattr(part, 'get_data_info') else {}
        path, said = data.get('img_path'), (data.get('height'), data.get('width'))
        if not isinstance(path, str) or '://' in path or not all(isinstance(side, int) for side in said):
            return
        yield path, said
