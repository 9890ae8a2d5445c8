"""AEDAT 2.0 and 3.1, the files of jAER and cAER (DVS128, DAVIS).

Source: iniVation's documentation of AEDAT 2.0 and AEDAT 3.1 (docs.inivation.com). Where it and jAER, which wrote nearly
all files of version 2.0, disagree about the DVS128 (which value of the last bit is "brighter", on which side x begins),
jAER is followed: the published data sets and their own scripts do so, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .base import BLOCK, Events, Reader, RecordReader, fault, joined, read_up_to, unwrap

LONGEST_LINE = 1 << 12  # that is looked at
LONGEST_HEADER = 1 << 22  # jAER writes all its settings there
DAVIS = {
    'DAVIS128': (128, 128),
    'DAVIS208': (192, 208),
    'DAVIS240': (180, 240),
    'DAVIS346': (260, 346),
    'DAVIS640': (480, 640),
}
DVS128 = (128, 128)
HEADER = np.dtype(
    [
        ('kind', '<i2'),
        ('source', '<i2'),
        ('size', '<i4'),
        ('time_offset', '<i4'),
        ('overflow', '<i4'),
        ('capacity', '<i4'),
        ('number', '<i4'),
        ('valid', '<i4'),
    ]
)
POLARITY = np.dtype([('data', '<u4'), ('t', '<i4')])
KINDS = 14  # of events in version 3.1; 1 is polarity


def header_lines(path: str | Path) -> tuple[list[str], int]:
    """Return the lines that begin with ``#``, and where the data begin.

    Raises:
        InputError: a line has no end.
    """
    lines, offset = [], 0
    with open(path, 'rb') as file:
        head = file.read(LONGEST_HEADER)
    while head[offset : offset + 1] == b'#':
        end = head.find(b'\n', offset)
        text = head[offset:end] if end >= 0 else head[offset:]
        if any(byte < 32 and byte not in b'\t\r' for byte in text[:LONGEST_LINE]):
            break  # the first byte of an event
        if end < 0 or not lines and len(text) > 100:
            raise fault(path, offset, 'the header has no end')
        lines.append(text.decode('latin-1').strip())
        offset = end + 1
        if lines[-1] == '#!END-HEADER':
            break
    return lines, offset


def open_aedat(path: str | Path, keep_cut: bool = False) -> Reader:
    """Return the reader of a file that begins with ``#!AER-DAT2.0`` or ``#!AER-DAT3.1``.

    Raises:
        InputError: it is of another version, or its header is malformed.
    """
    lines, offset = header_lines(path)
    if not lines:
        raise fault(path, 0, 'the header has no end')
    version = lines[0].removeprefix('#!AER-DAT')
    if version == '2.0':
        return Aedat2(path, keep_cut, offset, chip_of(path, lines, offset))
    if version == '3.1':
        if lines[-1] != '#!END-HEADER':
            raise fault(path, offset, 'the header of AEDAT 3.1 has no line "#!END-HEADER"')
        return Aedat3(path, keep_cut, offset, lines)
    raise fault(path, 0, f'AEDAT {version[:20]}: versions 2.0, 3.1 and 4.0 are read')


def chip_of(path: str | Path, lines: list[str], offset: int) -> str:
    """Return the camera's class: as the header says, else as addresses tell."""
    for line in lines:
        said = re.search(r'AEChip:\s*\S*?(DVS128|Tmpdiff128|DAVIS\d+)', line, re.IGNORECASE)
        if said:
            return said[1].upper().replace('TMPDIFF128', 'DVS128')
        if 'AEChip:' in line:
            raise fault(path, 0, f'{line[:120]!r}: DVS128 and DAVIS are read')
    with open(path, 'rb') as file:
        file.seek(offset)
        data = file.read(1 << 16)
    addresses = np.frombuffer(data, '>u4', len(data) // 8 * 2)[::2]
    if not (addresses >> 16).any():
        return 'DVS128'
    pixels = addresses[addresses >> 31 == 0]
    wide = ((pixels >> 12) & 0x3FF >= 240) | ((pixels >> 22) & 0x1FF >= 180)
    return 'DAVIS346' if wide.any() else 'DAVIS240'


class Aedat2(RecordReader):
    """AEDAT 2.0: 32 bits of address and 32 of microseconds an event, most significant byte first.

    DVS128: bit 0 polarity (0: brighter), 1 to 7 column from the right, 8 to 14 row from below, 15 no event of a pixel.
    DAVIS: bit 11 polarity (1: brighter), 12 to 21 column from the right, 22 to 30 row from below; 31 and 10 no event of
    a pixel.

    >>> Aedat2('a.aedat', chip='DAVIS346').sensor_size
    (260, 346)
    """

    FORMAT, WORD = 'AEDAT 2.0', np.dtype([('address', '>u4'), ('t', '>u4')])

    def __init__(self, path: str | Path, keep_cut: bool = False, offset: int = 0, chip: str = 'DVS128') -> None:
        self.chip = chip
        size = DVS128 if chip == 'DVS128' else DAVIS.get(chip[:8])
        if size is None:
            raise fault(path, 0, f'camera {chip}: DVS128, {", ".join(DAVIS)} are read')
        super().__init__(path, size, keep_cut, offset)

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield the pixels' events."""
        last, loops = None, 0
        height, width = self.sensor_size
        for offset, words in self.words():
            time, loops = unwrap(words['t'], 32, last, loops)
            last, address = int(words['t'][-1]), words['address'].astype(np.uint32)
            if self.chip == 'DVS128':
                pixel = address >> 15 == 0
                x, y, p = (address >> 1) & 0x7F, (address >> 8) & 0x7F, 1 - (address & 1)
                if (address >> 16).any():
                    at = int((address >> 16 > 0).argmax())
                    raise fault(
                        self.path, offset + 8 * at, f'address 0x{address[at]:08X} is none of a DVS128 (16 bits)'
                    )
            else:
                pixel = (address >> 31 == 0) & (address >> 10 & 1 == 0)
                x, y, p = (address >> 12) & 0x3FF, (address >> 22) & 0x1FF, (address >> 11) & 1
            outside = pixel & ((x >= width) | (y >= height))
            if outside.any():
                at = int(outside.argmax())
                raise fault(
                    self.path,
                    offset + 8 * at,
                    f'column {x[at]}, row {y[at]} is outside the sensor of {self.chip}: {width} x {height}',
                )
            events = Events(
                time,
                (width - 1 - x.astype(np.int64)).astype(np.uint16),
                (height - 1 - y.astype(np.int64)).astype(np.uint16),
                p.astype(np.uint8),
            )
            yield events.part(pixel) if not pixel.all() else events


class Packet(NamedTuple):
    """A packet's place and header.

    Args:
        offset: of the header.
        header: its fields, see ``HEADER``.
        length: bytes of its events in the file.

    >>> Packet(offset=100, header=np.zeros(1, HEADER)[0], length=0).offset
    100
    """

    offset: int
    header: np.void
    length: int


class Aedat3(Reader):
    """AEDAT 3.1: packets of events of one kind, of which polarity is read; least significant byte first.

    In a polarity event: bit 0 valid, 1 polarity, 2 to 16 row, 17 to 31 column; then 31 bits of microseconds, to which
    the packet adds a count of overflows.

    >>> Aedat3('a.aedat', lines=['#Source 1: DVS128']).sensor_size
    (128, 128)
    """

    FORMAT = 'AEDAT 3.1'

    def __init__(
        self, path: str | Path, keep_cut: bool = False, offset: int = 0, lines: list[str] | None = None
    ) -> None:
        sources = [re.fullmatch(r'#-?Source (\d+): (\S+)', line) for line in lines or []]
        sizes = {source_size(found[2]) for found in sources if found}
        super().__init__(path, sizes.pop() if len(sizes) == 1 else None, keep_cut)
        self.offset = offset

    def packets(self, file) -> Iterator[Packet]:
        """Yield the packets; the file stands at the events of each.

        Raises:
            InputError: a header makes no sense, or the file ends within a packet.
        """
        size, offset = os.fstat(file.fileno()).st_size, self.offset
        while offset < size:
            file.seek(offset)
            data = file.read(HEADER.itemsize)
            if len(data) < HEADER.itemsize:
                if self.keep_cut:
                    return
                raise fault(self.path, offset, f'the file ends within the header of a packet ({len(data)} of 28 bytes)')
            header = np.frombuffer(data, HEADER)[0]
            kind, each, number, capacity = (int(header[name]) for name in ('kind', 'size', 'number', 'capacity'))
            if not (0 <= kind < KINDS and each > 0 and 0 <= number <= capacity and int(header['overflow']) >= 0):
                raise fault(
                    self.path,
                    offset,
                    f'no packet of AEDAT 3.1: type {kind}, {number} of {capacity} events of {each} bytes',
                )
            if kind == 1 and (each != POLARITY.itemsize or header['time_offset'] != 4):
                raise fault(self.path, offset, f'polarity events of {each} bytes: expected {POLARITY.itemsize}')
            length = capacity * each
            if number < capacity and not self._begins_packet(file, offset + HEADER.itemsize + length, size):
                length = number * each  # programs that write only what there is
            left = size - offset - HEADER.itemsize
            if length > left:
                if self.keep_cut:
                    length = left // each * each
                    yield Packet(offset, header, length)
                    return
                raise fault(
                    self.path, offset, f'the file ends within a packet: {left} of {length} bytes of {number} events'
                )
            file.seek(offset + HEADER.itemsize)
            yield Packet(offset, header, length)
            self.position = offset = offset + HEADER.itemsize + length

    def _begins_packet(self, file, offset: int, size: int) -> bool:
        if offset >= size:
            return offset == size
        file.seek(offset)
        data = file.read(HEADER.itemsize)
        if len(data) < HEADER.itemsize:
            return False
        header = np.frombuffer(data, HEADER)[0]
        return bool(0 <= header['kind'] < KINDS and header['size'] > 0 and 0 <= header['number'] <= header['capacity'])

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield the valid polarity events; packets outside of ``[start, end)`` are passed over."""
        kept, held = [], 0
        with open(self.path, 'rb') as file:
            for packet in self.packets(file):
                number = min(int(packet.header['number']), packet.length // POLARITY.itemsize)
                if packet.header['kind'] != 1 or not number:
                    continue
                base = int(packet.header['overflow']) << 31
                file.seek(packet.offset + HEADER.itemsize)
                if end is not None or start is not None:
                    first, last = self._edges(file, packet, number)
                    if start is not None and base + last < start - (1 << 20):
                        continue
                    if end is not None and base + first >= end + (1 << 20):
                        break
                while number:
                    words = np.frombuffer(read_up_to(file, min(number * 8, BLOCK)), POLARITY)
                    number -= len(words)
                    kept.append(self._decoded(words, base))
                    held += len(words)
                    if held * 8 >= BLOCK:
                        yield joined(kept)
                        kept, held = [], 0
        if kept:
            yield joined(kept)

    @staticmethod
    def _edges(file, packet: Packet, number: int) -> tuple[int, int]:
        begin = packet.offset + HEADER.itemsize
        times = []
        for at in (0, number - 1):
            file.seek(begin + at * POLARITY.itemsize)
            times.append(int(np.frombuffer(file.read(POLARITY.itemsize), POLARITY)['t'][0]))
        file.seek(begin)
        return times[0], times[1]

    @staticmethod
    def _decoded(words: np.ndarray, base: int) -> Events:
        data = words['data']
        events = Events(
            words['t'].astype(np.int64) + base,
            (data >> 17).astype(np.uint16),
            ((data >> 2) & 0x7FFF).astype(np.uint16),
            ((data >> 1) & 1).astype(np.uint8),
        )
        valid = data & 1 == 1
        return events if valid.all() else events.part(valid)


def source_size(name: str) -> tuple[int, int] | None:
    """Return ``(H, W)`` of a camera that a header names."""
    name = name.upper()
    return DVS128 if 'DVS128' in name and 'DAVIS' not in name else DAVIS.get(name[:8])
