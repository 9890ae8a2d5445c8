"""Files of event cameras: read lazily, checked, and never executed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qsdt_mm.errors import InputError, why_no_file

from .readers.base import Events
from .readers.detection import open_events
from .readers.fields import FIELDS, named

FRAMES = dict(frames=('frames',))
PICTURES = ('.png', '.jpg', '.jpeg', '.bmp')


def read_events(
    path: str | Path, sensor_size: tuple[int, int] | None = None, window: tuple[int, int] | None = None
) -> Events:
    """Read and check the events of a file, of whatever format: see :func:`open_events`.

    An ``.npz`` of arrays ``t, x, y, p``, or of one structured array with these fields, keeps its unit of time, and has
    to be sorted; other usual names do as well (``FIELDS``). Stamps of numpy's time types become integers of their
    unit. All else comes in microseconds.

    Args:
        path: the file.
        sensor_size: ``(H, W)`` that coordinates have to be inside of; None takes that which the file says, or any.
        window: first time and end, in microseconds; events outside are left out. None reads all.

    Raises:
        InputError: the file is malformed, or holds no event; the message names the file and the fault.
    """
    if window is None and _is_npz(path):
        return _read_npz(path, sensor_size)
    reader = open_events(path)
    if sensor_size is not None:
        reader.sensor_size = tuple(sensor_size)
    return reader.read(*(window or (None, None)))


def sensor_size_of(path: str | Path) -> tuple[int, int] | None:
    """Return ``(H, W)`` that a file says, None where it does not.

    Raises:
        InputError: the file is malformed.
    """
    return None if _is_npz(path) else open_events(path).sensor_size


def _is_npz(path: str | Path) -> bool:
    """Return whether a file is an archive of arrays, or called one."""
    if Path(path).suffix == '.npz' or why_no_file(path):
        return True
    with open(path, 'rb') as file:
        return file.read(2) == b'PK'


def _read_npz(path: str | Path, sensor_size: tuple[int, int] | None) -> Events:
    fields = _fields(path, FIELDS)
    lengths = {name: fields[name].shape for name in FIELDS}
    if len(set(lengths.values())) > 1 or fields['t'].ndim != 1:
        shapes = ', '.join(f'{name} {shape}' for name, shape in lengths.items())
        raise InputError(f'{path}: t, x, y, p must be one-dimensional and equally long, got {shapes}')
    if not len(fields['t']):
        raise InputError(f'{path} holds no event')
    t = fields['t']
    if t.dtype.kind in 'mM' and not np.isnat(t).any():
        t = t.astype(np.int64)
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
    frames = _fields(path, FRAMES)['frames']
    if frames.ndim != 4 or frames.shape[1] != 2 or not frames.size or frames.dtype.kind not in 'biuf':
        raise InputError(f'{path}: frames {frames.shape} {frames.dtype}: expected numbers (T, 2, H, W)')
    if num_frames is not None and len(frames) != num_frames:
        raise InputError(f'{path} holds {len(frames)} frames: expected num_frames={num_frames}')
    frames = frames.astype(np.float32)
    if not np.isfinite(frames).all():
        raise InputError(f'{path}: frames hold values that are not finite')
    if (frames < 0).any():
        raise InputError(
            f'{path}: frames hold numbers of events, of which none is negative: got {frames.min():g} '
            f'({(frames < 0).sum()} of {frames.size} are)'
        )
    return frames


def picture_files(folder: str | Path) -> list[Path]:
    """Return the pictures in a folder by name, numbers as numbers.

    Raises:
        InputError: it is not there, or holds none.
    """
    folder, absent = Path(folder), why_no_file(folder, folder=True)
    if absent:
        raise InputError(f'{folder} {absent}')
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


def holds_frames(path: str | Path) -> bool:
    """Return whether a file holds ready-made frames; False, too, where it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return named(path, archive.files, FRAMES['frames']) is not None
    except Exception:  # what is wrong is said by who reads it
        return False


def _fields(path: str | Path, wanted: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """Return the wanted arrays of a file; where there is none of them, the fields of structured arrays.

    Args:
        path: the file.
        wanted: names that each may have, see ``FIELDS``.

    Raises:
        InputError: the file cannot be read, or has not all of them; the names that it has are listed.
    """
    absent = why_no_file(path)
    if absent:
        raise InputError(f'{path} {absent}')
    try:
        archive = np.load(path, allow_pickle=False)  # arrays of objects would run code
    except PermissionError as error:
        raise InputError(f'{path} cannot be read: permission denied') from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        raise InputError(f'{path} is not an npz file') from error
    if isinstance(archive, np.ndarray):
        raise InputError(f'{path} is not an npz file but a single array')
    fields, shapes = {}, {}
    with archive:
        shapes = dict.fromkeys(archive.files, '')
        wanted_names = [name for aliases in wanted.values() if (name := named(path, archive.files, aliases))]
        for name in wanted_names or archive.files:
            array = _member(path, archive, name)
            if not isinstance(array, np.ndarray):  # members that are no arrays come as bytes
                continue
            parts = {k: array[k] for k in array.dtype.names} if array.dtype.names else {name: array}
            shapes.pop(name)
            fields |= parts
            shapes |= {key: f' {value.shape}' for key, value in parts.items()}
    found = {key: named(path, list(fields), aliases) for key, aliases in wanted.items()}
    missing = [key for key, name in found.items() if name is None]
    if missing:
        there = ', '.join(f'{name}{shape}' for name, shape in shapes.items()) or 'nothing'
        if len(there) > 200:
            there = f'{there[:197]}...'
        raise InputError(f'{path} has no field {", ".join(missing)}: expected {", ".join(wanted)}; it has {there}')
    return {key: fields[name] for key, name in found.items()}


def _member(path: str | Path, archive: Any, name: str) -> Any:
    try:
        return archive[name]
    except Exception as error:
        if 'allow_pickle' in str(error):
            raise InputError(f'{path}: {name} holds pickled objects, which are not loaded') from error
        raise InputError(f'{path}: {name} cannot be read ({type(error).__name__})') from error


def _whole_numbers(path: str | Path, name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in 'biu':
        return values.astype(np.int64)
    if values.dtype.kind == 'f' and np.isfinite(values).all() and (values == np.floor(values)).all():
        return values.astype(np.int64)
    raise InputError(f'{path}: {name} must be whole numbers, got {values.dtype}')
