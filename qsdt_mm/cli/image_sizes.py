"""Sizes of images against those of their annotations, before a run, on a sample of files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qsdt_mm.datasets.labels import parts_below, parts_of
from qsdt_mm.datasets.orientation import UNTURNED, loader_of, size_fault, stored_size, turns
from qsdt_mm.errors import InputError

SAMPLE = 200  # files of each data set, of which the head is read


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
        turned, seen, first = 0, 0, None
        for path, said in _sizes(part, sample):
            try:
                stored = stored_size(path)
            except OSError as error:
                raise InputError(f'{path}: {error.strerror or "is no whole image"}') from error
            if stored is None:
                continue
            (height, width), orientation = stored
            read = (width, height) if orientation >= 5 and turns(loader) else (height, width)
            if read != said:
                raise InputError(size_fault(path, read, said))
            seen += 1
            if turns(loader) and orientation > 1 and (orientation < 5 or height == width):
                turned, first = turned + 1, first or path
        if turned:
            remarks.append(
                f'{turned} of {seen} photos looked at are turned or mirrored by EXIF when read (first: {first}): if '
                f'boxes are of the pixels as stored, read them with {UNTURNED}'
            )
    return remarks


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
