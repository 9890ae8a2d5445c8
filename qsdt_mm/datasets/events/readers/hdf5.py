"""HDF5 files of events: t, x, y, p as arrays of one group, as fields of one array, or as four columns; read in blocks.

Found by the names of the fields, wherever they are: Prophesee's ``CD/events``, DSEC's ``events/t``, ``events/ts`` of
others, ``davis/left/events`` of MVSEC.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from qsdt_mm.errors import InputError

from .base import Events, Reader
from .columns import guess_order, time_unit, to_events
from .fields import FIELDS, named

ROWS = 1 << 16
FILTERS = {
    32001: ('blosc', 'pip install hdf5plugin'),
    32004: ('lz4', 'pip install hdf5plugin'),
    32008: ('bitshuffle', 'pip install hdf5plugin'),
    32013: ('zfp', 'pip install hdf5plugin'),
    32015: ('zstd', 'pip install hdf5plugin'),
    32026: ('blosc2', 'pip install hdf5plugin'),
    36559: ('ECF of Prophesee', "build prophesee-ai's hdf5_ecf and name its folder in HDF5_PLUGIN_PATH"),
}
MOST_OBJECTS = 10_000  # groups and arrays that are looked at
LEAST_STORED = 1 / 50_000  # stored bytes for each byte of an array: no compression of events comes near
SIZES = (('height', 'width'), ('sensor_height', 'sensor_width'))


def h5py_module() -> Any:
    """Return h5py.

    Raises:
        InputError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError('.h5 files need h5py: pip install h5py') from error
    return h5py


class Hdf5Reader(Reader):
    """Reads ``.h5`` and ``.hdf5``.

    >>> Hdf5Reader.FORMAT
    'HDF5'
    """

    FORMAT = 'HDF5'

    def __init__(self, path: str | Path, keep_cut: bool = False) -> None:
        super().__init__(path, None, keep_cut)
        with self._opened() as file:
            self.found = self._find(file)
            self._check_storage(file)
            self.sensor_size = self._size(file)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        h5py = h5py_module()
        try:
            file = h5py.File(self.path, 'r')
        except (InputError, MemoryError):
            raise
        except Exception as error:
            raise InputError(f'{self.path}, byte 0: truncated or damaged HDF5 ({_line(error)})') from error
        with file:
            try:
                yield file
            except (InputError, MemoryError):
                raise
            except Exception as error:  # a damaged file can raise nearly anything
                raise InputError(f'{self.path} is damaged ({type(error).__name__}: {_line(error)})') from error

    def _find(self, file: Any) -> dict[str, str] | str:
        """Return the arrays of t, x, y and p, or the array that has all four."""
        h5py = h5py_module()
        groups: dict[str, dict[str, tuple]] = {}
        whole: list[tuple[str, Any]] = []
        seen, todo = 0, [('', file)]
        while todo and seen < MOST_OBJECTS:
            where, group = todo.pop(0)
            for name in group:
                seen += 1
                if seen >= MOST_OBJECTS:
                    break
                # Links into other files are not followed: a file tells only of itself.
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    continue
                item, place = group[name], f'{where}/{name}'
                if isinstance(item, h5py.Group):
                    if place.count('/') <= 6:
                        todo.append((place, item))
                elif isinstance(item, h5py.Dataset):
                    if item.dtype.names and len(item.shape) == 1:
                        whole.append((place, self._names(item.dtype.names)))
                    elif len(item.shape) == 2 and item.shape[1] == 4 and item.dtype.kind in 'iuf' and 'event' in place:
                        whole.append((place, None))
                    elif len(item.shape) == 1:
                        groups.setdefault(where, {})[name] = item.shape
        for where, members in groups.items():
            names = self._names(members)
            if all(names.values()):
                shapes = {members[name] for name in names.values()}
                if len(shapes) > 1:
                    given = ', '.join(f'{name} {members[name]}' for name in names.values())
                    raise InputError(f'{self.path}: arrays of {where or "/"} differ in length: {given}')
                return {key: f'{where}/{name}' for key, name in names.items()}
        fitting = [place for place, names in whole if names is None or all(names.values())]
        if fitting:
            return fitting[0]
        there = [*groups, *(place for place, _ in whole)]
        raise InputError(
            f'{self.path}: no arrays t, x, y, p in any group'
            + (f'; looked at {", ".join(place or "/" for place in there)[:200]}' if there else '; it holds no array')
        )

    def _names(self, names: Any) -> dict[str, str | None]:
        """Return which of the names stand for which field, none where several would do."""
        try:
            return {key: named(self.path, list(names), aliases) for key, aliases in FIELDS.items()}
        except InputError:
            return dict.fromkeys(FIELDS)

    def _arrays(self, file: Any) -> dict[str, Any]:
        return (
            {key: file[place] for key, place in self.found.items()}
            if isinstance(self.found, dict)
            else {'events': file[self.found]}
        )

    def _check_storage(self, file: Any) -> None:
        """Refuse arrays whose filter is missing, or that promise more than is stored."""
        h5py = h5py_module()
        for name, array in self._arrays(file).items():
            plan = array.id.get_create_plist()
            if plan.get_external_count() or array.is_virtual:
                raise InputError(f'{self.path}: {name} lies in another file, which is not read')
            for index in range(plan.get_nfilters()):
                code, _, _, label = plan.get_filter(index)
                if not h5py.h5z.filter_avail(code):
                    with contextlib.suppress(ImportError):
                        import hdf5plugin  # noqa: F401  (registers what it has)
                if not h5py.h5z.filter_avail(code):
                    known, way = FILTERS.get(code, (label.decode('ascii', 'replace')[:60] or 'unknown', ''))
                    raise InputError(
                        f'{self.path}: {name} is compressed with {known} (HDF5 filter {code}), whose plug-in is not '
                        f'installed{": " + way if way else ""}'
                    )
            promised, stored = array.size * array.dtype.itemsize, array.id.get_storage_size()
            if promised and stored < promised * LEAST_STORED:
                raise InputError(
                    f'{self.path}: {name} promises {array.size} values, of which {stored} bytes are stored'
                )

    def _size(self, file: Any) -> tuple[int, int] | None:
        place = self.found if isinstance(self.found, str) else self.found['t']
        owners = [file[place], file[place].parent, file]
        for owner in owners:
            for pair in SIZES:
                with contextlib.suppress(KeyError, TypeError, ValueError, OSError):
                    height, width = (int(np.asarray(owner.attrs[name]).item()) for name in pair)
                    if 0 < height < 1 << 16 and 0 < width < 1 << 16:
                        return height, width
            with contextlib.suppress(KeyError, TypeError, ValueError, OSError):
                width, height = str(owner.attrs['geometry']).split('x')
                if 0 < int(height) < 1 << 16 and 0 < int(width) < 1 << 16:
                    return int(height), int(width)
        return None

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield events, with DSEC's ``t_offset`` added to their times."""
        with self._opened() as file:
            arrays = self._arrays(file)
            one = next(iter(arrays.values()))
            order, unit, offset = None, self.time_unit, 0
            with contextlib.suppress(KeyError, TypeError, ValueError):
                offset = int(file['t_offset'][()])
            for first in range(0, len(one), ROWS):
                rows = slice(first, first + ROWS)
                if 'events' not in arrays:
                    parts = {key: array[rows] for key, array in arrays.items()}
                elif one.dtype.names:
                    table = one[rows]
                    parts = {key: table[named(self.path, list(table.dtype.names), a)] for key, a in FIELDS.items()}
                else:
                    table = one[rows]
                    order = order or guess_order(self.path, table.T)
                    parts = dict(zip(order, table.T))
                parts = {key: _number(values) for key, values in parts.items()}
                unit = unit or time_unit(parts['t'])
                events = to_events(self.path, parts, unit, first)
                yield events._replace(t=events.t + offset)


def _number(values: np.ndarray) -> np.ndarray:
    """Return booleans that HDF5 holds as an enumeration as such."""
    return values.astype(np.int8) if values.dtype.kind == 'b' else values


def _line(error: BaseException) -> str:
    return ' '.join(str(error).split())[:160]
