"""AEDAT 4.0, the files of DV, through the package ``aedat`` (MIT)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qsdt_mm.errors import InputError

from .base import Events, Reader


class Aedat4(Reader):
    """Reads ``.aedat4``: the polarity events of the first stream that has some.

    Raises:
        InputError: the package ``aedat`` is missing, or it cannot read the file.

    >>> Aedat4.FORMAT
    'AEDAT 4.0'
    """

    FORMAT = 'AEDAT 4.0'

    def __init__(self, path: str | Path, keep_cut: bool = False) -> None:
        super().__init__(path, None, keep_cut)
        with _translated(path):
            streams = self._decoder().id_to_stream()
        sizes = {number: stream for number, stream in streams.items() if stream['type'] == 'events'}
        if not sizes:
            raise InputError(f'{path} holds no stream of events, but {", ".join(s["type"] for s in streams.values())}')
        self.stream = min(sizes)
        width, height = sizes[self.stream]['width'], sizes[self.stream]['height']
        if not (0 < width < 1 << 16 and 0 < height < 1 << 16):
            raise InputError(f'{path}, byte 0: a sensor of {width} x {height}')
        self.sensor_size = (height, width)

    def _decoder(self):
        try:
            import aedat
        except ImportError as error:
            raise InputError(f'{self.path}: AEDAT 4.0 needs the package aedat: pip install aedat') from error
        return aedat.Decoder(str(self.path))

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield events packet by packet."""
        with _translated(self.path):
            decoder = iter(self._decoder())
        while True:
            try:
                with _translated(self.path):
                    packet = next(decoder)
            except StopIteration:
                return
            except InputError:
                if self.keep_cut:
                    return
                raise
            events = packet.get('events') if packet['stream_id'] == self.stream else None
            if events is not None and len(events):
                time = events['t']
                if time.max() >= 1 << 62:
                    raise InputError(f'{self.path}: a time stamp of {time.max()} us is too far away')
                on = events['on'] if 'on' in (events.dtype.names or ()) else events['p']
                yield Events(
                    time.astype(np.int64),
                    events['x'].astype(np.uint16),
                    events['y'].astype(np.uint16),
                    on.astype(np.uint8),
                )


class _translated:
    """Turns what the package raises, panics included, into one line."""

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> None:
        if error is None or isinstance(error, (StopIteration, InputError, KeyboardInterrupt, SystemExit, MemoryError)):
            return
        said = ' '.join(str(error).split())[:200]
        raise InputError(f'{self.path} is truncated or damaged ({type(error).__name__}: {said})') from error
