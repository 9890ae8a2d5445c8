"""Events written as .npz, whole recordings too without having them in memory."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from qsdt_mm.errors import InputError

from .readers.base import Events

TYPES = dict(t=np.dtype('<i8'), x=np.dtype('<u2'), y=np.dtype('<u2'), p=np.dtype('u1'))
PIECE = 1 << 20  # values that are copied at a time


def write_npz(path: str | Path, events: Events) -> None:
    """Write events as :func:`read_events` takes them: ``t`` in microseconds, ``x, y, p``, compressed."""
    t = events.t.astype(np.uint32) if events.t[0] >= 0 and events.t[-1] < 1 << 32 else events.t
    np.savez_compressed(
        path, t=t, x=events.x.astype(np.uint16), y=events.y.astype(np.uint16), p=events.p.astype(np.uint8)
    )


def stream_npz(path: str | Path, blocks: Iterable[Events]) -> tuple[int, tuple[int, int]]:
    """Write blocks of events into one file, of which there is but one in memory.

    Returns:
        The number of events, and the smallest ``(H, W)`` that holds them.

    Raises:
        InputError: there are none.
    """
    path = Path(path)
    count, height, width, first, last = 0, 0, 0, 0, 0
    with tempfile.TemporaryDirectory(prefix=f'.{path.name}.', dir=path.parent) as folder:
        parts = {name: open(Path(folder, name), 'w+b') for name in TYPES}  # noqa: SIM115
        try:
            for block in blocks:
                first = int(block.t[0]) if not count else first
                count, last = count + len(block.t), int(block.t[-1])
                rows, columns = block.sensor_size
                height, width = max(height, rows), max(width, columns)
                for (name, kind), values in zip(TYPES.items(), block):
                    parts[name].write(values.astype(kind).tobytes())
            if not count:
                raise InputError(f'{path.stem} holds no event')
            with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
                for name, kind in TYPES.items():
                    target = np.dtype('<u4') if name == 't' and first >= 0 and last < 1 << 32 else kind
                    header = dict(descr=target.str, fortran_order=False, shape=(count,))
                    parts[name].seek(0)
                    with archive.open(f'{name}.npy', 'w', force_zip64=True) as member:
                        np.lib.format.write_array_header_1_0(member, header)
                        while data := parts[name].read(PIECE * kind.itemsize):
                            member.write(np.frombuffer(data, kind).astype(target).tobytes())
        finally:
            for part in parts.values():
                part.close()
    return count, (height, width)
