"""Files of event cameras: read lazily, checked, and never executed."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from qsdt_mm.errors import InputError

FIELDS = ('t', 'x', 'y', 'p')
PICTURES = ('.png', '.jpg', '.jpeg', '.bmp')


class Events(NamedTuple):
    """Events of one recording, arrays ``(N,)`` sorted by time.

    Args:
        t: time stamps, in the recording's unit (usually microseconds).
        x, y: column and row, int64.
        p: polarity, int64: 1 where it became brighter, 0 where it became darker.

    >>> Events(t=np.array([0, 5]), x=np.array([3, 1]), y=np.array([0, 2]), p=np.array([1, 0])).sensor_size
    (3, 4)
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray

    @property
    def sensor_size(self) -> tuple[int, int]:
        """Return the smallest ``(H, W)`` that holds all events."""
        return int(self.y.max()) + 1, int(self.x.max()) + 1


def read_events(path: str | Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read and check events: an ``.npz`` of arrays ``t, x, y, p``, or of one structured array with these fields.

    Args:
        path: the file.
        sensor_size: ``(H, W)`` that coordinates have to be inside of; None takes any that are not negative.

    Raises:
        InputError: the file is malformed; the message names the file and the fault.
    """
    fields = _fields(path, FIELDS)
    missing = [name for name in FIELDS if name not in fields]
    if missing:
        raise InputError(f'{path} has no field {", ".join(missing)}: expected t, x, y, p')
    lengths = {name: fields[name].shape for name in FIELDS}
    if len(set(lengths.values())) > 1 or fields['t'].ndim != 1:
        shapes = ', '.join(f'{name} {shape}' for name, shape in lengths.items())
        raise InputError(f'{path}: t, x, y, p must be one-dimensional and equally long, got {shapes}')
    if not len(fields['t']):
        raise InputError(f'{path} holds no event')
    t = fields['t']
    if t.dtype.kind not in 'iuf' or not np.isfinite(t).all():
        raise InputError(f'{path}: time stamps must be finite numbers')
    if (t[1:] < t[:-1]).any():
        at = int((t[1:] < t[:-1]).argmax()) + 1
        raise InputError(f'{path}: time is not sorted: event {at} is at {t[at]} after {t[at - 1]}')
    x, y, p = (_whole_numbers(path, name, fields[name]) for name in 'xyp')
    for name, values, end in (('x', x, sensor_size and sensor_size[1]), ('y', y, sensor_size and sensor_size[0])):
        outside = (values < 0) | (values >= end) if end else values < 0
        if outside.any():
            allowed = f'0 to {end - 1}' if end else '0 or more'
            raise InputError(
                f'{path}: {name}={values[outside.argmax()]} is outside the sensor: expected {allowed} '
                f'({outside.sum()} events)'
            )
    p = np.where(p == -1, 0, p)
    if ((p != 0) & (p != 1)).any():
        raise InputError(f'{path}: polarity {p[((p != 0) & (p != 1)).argmax()]}: expected 0 and 1, or -1 and 1')
    return Events(t, x, y, p)


def read_frames(path: str | Path, num_frames: int | None = None) -> np.ndarray:
    """Read frames made of events: an ``.npz`` with an array ``frames``, ``(T, 2, H, W)``, as SpikingJelly writes it.

    Args:
        path: the file.
        num_frames: T that is expected; None takes any.

    Returns:
        float32 counts.

    Raises:
        InputError: the file is malformed; the message names the file and the fault.
    """
    fields = _fields(path, ('frames',))
    if 'frames' not in fields:
        raise InputError(f'{path} has no field frames')
    frames = fields['frames']
    if frames.ndim != 4 or frames.shape[1] != 2 or not frames.size or frames.dtype.kind not in 'biuf':
        raise InputError(f'{path}: frames {frames.shape} {frames.dtype}: expected numbers (T, 2, H, W)')
    if num_frames is not None and len(frames) != num_frames:
        raise InputError(f'{path} holds {len(frames)} frames: expected num_frames={num_frames}')
    frames = frames.astype(np.float32)
    if not np.isfinite(frames).all():
        raise InputError(f'{path}: frames hold values that are not finite')
    return frames


def picture_files(folder: str | Path) -> list[Path]:
    """Return the pictures in a folder by name, numbers as numbers.

    Raises:
        InputError: it is not there, or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f'{folder} is not a folder')
    found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]
    if not found:
        raise InputError(f'{folder} holds no picture ({", ".join(PICTURES)})')
    return sorted(found, key=lambda path: natural(path.name))


def read_picture(path: str | Path) -> Image.Image:
    """Return a picture in shades of grey.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert('L')
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f'{path} cannot be read as a picture ({error})') from error


def natural(name: str) -> list:
    """Return a key that sorts numbers in names as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r'(\d+)', name)]


def _fields(path: str | Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the wanted arrays of a file by name; where there is none, the fields of structured arrays."""
    if not Path(path).is_file():
        raise InputError(f'{path} does not exist')
    try:
        archive = np.load(path, allow_pickle=False)  # arrays of objects would run code
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f'{path} is not an npz file') from error
    if isinstance(archive, np.ndarray):
        raise InputError(f'{path} is not an npz file but a single array')
    fields = {}
    with archive:
        for name in [name for name in archive.files if name in wanted] or archive.files:
            try:
                array = archive[name]
            except Exception as error:
                if 'allow_pickle' in str(error):
                    raise InputError(f'{path}: {name} holds pickled objects, which are not loaded') from error
                if isinstance(error, (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError)):
                    raise InputError(f'{path}: {name} cannot be read ({type(error).__name__})') from error
                raise
            # Members that are no arrays come as bytes.
            if isinstance(array, np.ndarray):
                fields.update({k: array[k] for k in array.dtype.names} if array.dtype.names else {name: array})
    return fields


def _whole_numbers(path: str | Path, name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in 'biu':
        return values.astype(np.int64)
    if values.dtype.kind == 'f' and np.isfinite(values).all() and (values == np.floor(values)).all():
        return values.astype(np.int64)
    raise InputError(f'{path}: {name} must be whole numbers, got {values.dtype}')
