"""AEDAT 4.0, the files of DV, through the package ``aedat`` (MIT)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from qsdt_mm.errors import InputError

from .base import Events, Reader, fault

VERSION = b'#!AER-DAT4.0\r\n'
LARGEST_HEADER = 1 << 20


def check_structure(path: str | Path, keep_cut: bool) -> None:
    """Check the header, and that packets follow each other to the end: the package is not asked about damaged files.

    After the version comes a flatbuffer IOHeader: compression, where the table of packets is (-1: nowhere), and XML
    that describes the streams. A packet begins with the number of its stream and its length, 32 bits each.

    Raises:
        InputError: one of them makes no sense, or the file ends within a packet.
    """
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(len(VERSION) + 4)
        if not start.startswith(VERSION) or len(start) < len(VERSION) + 4:
            raise fault(path, 0, f'{start[:16]!r}: expected {VERSION!r} and a header')
        (length,) = struct.unpack('<I', start[-4:])
        if length > min(size - len(start), LARGEST_HEADER):
            raise fault(path, len(VERSION), f'a header of {length} bytes, the file has {size - len(start)}')
        header = file.read(length)
        end = _table_position(path, header)
        offset = len(start) + length
        end = size if end < 0 else end
        if not offset <= end <= size:
            raise fault(path, len(VERSION), f'the table of packets is said to be at {end}, the file has {size} bytes')
        while offset < end:
            file.seek(offset)
            data = file.read(8)
            left = end - offset - 8
            if len(data) < 8 or not 0 <= struct.unpack('<ii', data)[1] <= left:
                if keep_cut and end == size:
                    return
                raise fault(path, offset, f'the file ends within a packet: {max(left, 0)} bytes are left')
            offset += 8 + struct.unpack('<ii', data)[1]


def _table_position(path: str | Path, header: bytes) -> int:
    """Return the second field of the IOHeader, the place of the table of packets; check the third, the description."""

    def number(kind: str, at: int) -> int:
        if at < 0:
            raise ValueError('an offset below 0')
        return struct.unpack_from(f'<{kind}', header, at)[0]

    try:
        root = number('I', 0)
        if header[4:8] != b'IOHE':
            raise ValueError('it is no IOHeader')
        table = root - number('i', root)
        slots = [number('H', table + 4 + 2 * i) for i in range((number('H', table) - 4) // 2)]
        if len(slots) < 3 or not slots[2] or max(slots) + 4 > number('H', table + 2):
            raise ValueError('fields are missing')
        text = root + slots[2] + number('I', root + slots[2])
        data = header[text + 4 : text + 4 + number('I', text)]
        if len(data) != number('I', text):
            raise ValueError('the description of the streams is cut off')
        xml = data.decode()
        if '<!' in xml:  # entities could grow without end
            raise ValueError('the description of the streams is no plain XML')
        ElementTree.fromstring(xml)
        return number('q', root + slots[1]) if slots[1] else -1
    except (struct.error, ValueError, ElementTree.ParseError) as error:
        raise fault(path, len(VERSION), f'the header is damaged ({error})') from None


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
        check_structure(path, keep_cut)
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
