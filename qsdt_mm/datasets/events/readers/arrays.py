"""numpy's files: .npy and .npz of arrays t, x, y, p, of one structured array, or of four columns; read in blocks."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from qsdt_mm.errors import InputError

from .base import Events, Reader, fault, read_up_to
from .columns import guess_order, time_unit, to_events
from .fields import FIELDS, named

ROWS = 1 << 16  # events that are read at a time
LARGEST_ROW = 1 << 12  # bytes
LARGEST_WHOLE = 1 << 30  # bytes of an array that cannot be read row by row


class ArrayStream:
    """One array of a file, read row after row; nothing is allocated for what its header promises.

    Args:
        path: the file, for messages.
        name: the array's.
        file: it, at its start.
        size: its bytes.

    Raises:
        InputError: it is no array of numbers, or its header promises more than there is.

    >>> import io
    >>> file = io.BytesIO()
    >>> np.save(file, np.arange(5))
    >>> size = file.seek(0, 2)
    >>> ArrayStream('a.npy', 'array', file, size + file.seek(0)).rows(3)
    array([0, 1, 2])
    """

    def __init__(self, path: str | Path, name: str, file: BinaryIO, size: int) -> None:
        self.path, self.name, self.file = path, name, file
        try:
            version = np.lib.format.read_magic(file)
            read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
            self.shape, column_major, self.dtype = read(file)
        except MemoryError:
            raise
        except Exception as error:  # a damaged header can raise nearly anything
            said = ' '.join(str(error).split())[:120]
            raise fault(path, 0, f'{name} is not an array ({said})') from error
        if self.dtype.hasobject:
            raise InputError(f'{path}: {name} holds pickled objects, which are not loaded')
        if not self.shape or any(side < 0 for side in self.shape) or column_major and len(self.shape) != 2:
            raise InputError(f'{path}: {name} of shape {self.shape}: expected events row by row')
        self.row = self.dtype.itemsize
        for side in self.shape[1:]:
            self.row *= side
        self.at = file.tell()
        if not 0 < self.row <= LARGEST_ROW:
            raise fault(path, 0, f'{name} {self.shape} {str(self.dtype)[:80]} holds no events')
        if self.shape[0] * self.row > size - self.at:
            raise fault(
                path,
                self.at,
                f'{name} of {self.shape[0]} rows takes {self.shape[0] * self.row} bytes, the file has {size - self.at}',
            )
        self.left = self.shape[0]
        self.whole = None
        if column_major and len(self.shape) == 2:  # np.stack([t, x, y, p]).T is saved so
            if self.shape[0] * self.row > LARGEST_WHOLE:
                raise InputError(
                    f'{path}: {name} of {self.shape[0]} rows is saved column by column: save it row by row'
                )
            self.whole = self._read(self.shape[0]).reshape(self.shape[::-1]).T

    def rows(self, number: int = ROWS) -> np.ndarray:
        """Return the next rows, none at the end."""
        number, start = min(number, self.left), self.shape[0] - self.left
        self.left -= number
        if self.whole is not None:
            return self.whole[start : start + number]
        return self._read(number).reshape(-1, *self.shape[1:])

    def _read(self, number: int) -> np.ndarray:
        try:
            data = read_up_to(self.file, number * self.row)
        except Exception as error:
            raise fault(self.path, self.at, f'{self.name} cannot be read ({type(error).__name__})') from error
        if len(data) < number * self.row:
            raise fault(self.path, self.at, f'{self.name} ends after {len(data) // self.row} of {number} rows')
        self.at += len(data)
        return np.frombuffer(data, self.dtype)


class ArrayReader(Reader):
    """Reads ``.npy`` and ``.npz``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f'{folder}/a.npz', t=[0.5, 1.25], x=[3, 1], y=[0, 2], p=[1, 0])  # seconds
    ...     ArrayReader(f'{folder}/a.npz').read().t.tolist()
    [500000, 1250000]
    """

    FORMAT = 'numpy'

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield events; the unit of time is that of all, so broken numbers anywhere make seconds."""
        unit = self.time_unit
        for parts in self._parts() if unit is None else ():
            kind = parts['t'].dtype.kind
            unit = 'own' if kind in 'mM' else self._unit() if kind == 'f' else 'us'
            break
        first = 0
        for parts in self._parts():
            yield to_events(self.path, parts, unit, first)
            first += len(parts['t'])

    def _unit(self) -> str:
        """Return s where a stamp of the file is broken, else us."""
        return 's' if any(time_unit(parts['t']) == 's' for parts in self._parts()) else 'us'

    def _parts(self) -> Iterator[dict[str, np.ndarray]]:
        with contextlib.ExitStack() as stack:
            streams = self._streams(stack)
            alone = None
            if len(streams) == 1:
                (alone,) = streams.values()
                streams = {}
                if not alone.dtype.names and (len(alone.shape) != 2 or alone.shape[1] != 4):
                    raise InputError(
                        f'{self.path}: an array {alone.shape} {alone.dtype}: expected fields t, x, y, p, or (N, 4)'
                    )
            order = None
            while True:
                if alone is None:
                    parts = {key: stream.rows() for key, stream in streams.items()}
                elif alone.dtype.names:
                    rows = alone.rows()
                    parts = {key: rows[name] for key, name in self._names(alone.dtype.names).items()}
                else:
                    rows = alone.rows()
                    order = order or (guess_order(self.path, rows.T) if len(rows) else 'txyp')
                    parts = dict(zip(order, rows.T))
                if not len(parts['t']):
                    return
                yield parts

    def _names(self, names) -> dict[str, str]:
        found = {key: named(self.path, list(names), aliases) for key, aliases in FIELDS.items()}
        missing = [key for key, name in found.items() if name is None]
        if missing:
            there = ', '.join(list(names)[:20]) or 'nothing'
            raise InputError(f'{self.path} has no field {", ".join(missing)}: expected t, x, y, p; it has {there}')
        return found

    def _streams(self, stack: contextlib.ExitStack) -> dict[str, ArrayStream]:
        file = stack.enter_context(open(self.path, 'rb'))  # noqa: SIM115
        if file.read(2) != b'PK':
            file.seek(0)
            return {'array': ArrayStream(self.path, 'array', file, os.fstat(file.fileno()).st_size)}
        file.seek(0)
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
        except Exception as error:  # a damaged archive can raise nearly anything
            raise InputError(f'{self.path} is not an npz file') from error
        members = {name.removesuffix('.npy'): name for name in archive.namelist() if name.endswith('.npy')}

        def stream(name: str) -> ArrayStream:
            info = archive.getinfo(members[name])
            try:
                opened = stack.enter_context(archive.open(info))
            except Exception as error:
                raise InputError(f'{self.path}: {name} cannot be read ({type(error).__name__})') from error
            return ArrayStream(self.path, name, opened, info.file_size)

        fields = {key: named(self.path, list(members), aliases) for key, aliases in FIELDS.items()}
        if any(fields.values()) or len(members) != 1:
            fields = self._names(members)
            streams = {key: stream(name) for key, name in fields.items()}
            shapes = {one.shape for one in streams.values()}
            if len(shapes) > 1 or len(next(iter(shapes))) != 1:
                given = ', '.join(f'{key} {one.shape}' for key, one in streams.items())
                raise InputError(f'{self.path}: t, x, y, p must be one-dimensional and equally long, got {given}')
            return streams
        return {name: stream(name) for name in members}
