"""Prophesee's files: raw streams in EVT 2.0, EVT 2.1 and EVT 3.0, and decoded events (.dat).

Source: Prophesee's documentation of file and encoding formats (docs.prophesee.ai, "RAW File Format", "DAT File Format",
"EVT 2.0 / 2.1 / 3.0 Format").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .base import Events, RecordReader, carried, fault, unwrap

LONGEST_HEADER = 1 << 16
GENERATIONS = {'3': (480, 640), '4': (720, 1280)}  # (H, W) of sensors whose files do not say it
FOREIGN = 0.1  # share of words of unknown type from which on a block is of another format
LEGACY_DAT = (0x1FF, 9, 0xFF, 17)  # before version 2: mask of x, shift and mask of y, shift of the polarity
DAT = (0x3FFF, 14, 0x3FFF, 28)


def read_header(path: str | Path) -> tuple[dict[str, str], int]:
    """Return the keywords, in small letters, of lines ``% keyword value``, and where the data begin.

    Raises:
        InputError: a line has no end.
    """
    found, offset = {}, 0
    with open(path, 'rb') as file:
        head = file.read(LONGEST_HEADER)
    while head[offset : offset + 2] == b'% ':
        end = head.find(b'\n', offset)
        if end < 0:
            raise fault(path, offset, 'the header has no end')
        words = head[offset + 2 : end].decode('ascii', 'replace').strip().split(maxsplit=1)
        offset = end + 1
        if words == ['end']:
            break
        if words:
            found[words[0].lower()] = words[1] if len(words) > 1 else ''
    return found, offset


def sensor_size(path: str | Path, header: dict[str, str], most: int) -> tuple[int, int] | None:
    """Return ``(H, W)`` of a header, None where it says nothing.

    Raises:
        InputError: it is 0, or more than the format can address (``most``).
    """
    options = dict(re.findall(r'(\w+)=(\w+)', header.get('format', '')))
    pairs = [
        re.fullmatch(r'(\d+)x(\d+)', header.get('geometry', '')),
        re.fullmatch(r'(\d+)x(\d+)', f'{options.get("width")}x{options.get("height")}'),
        re.fullmatch(r'(\d+)x(\d+)', f'{header.get("width")}x{header.get("height")}'),
    ]
    for pair in filter(None, pairs):
        width, height = (int(side[:9]) if len(side) < 10 else most + 1 for side in pair.groups())
        if not (0 < width <= most and 0 < height <= most):
            raise fault(path, 0, f'the header says a sensor of {pair[0][:40]}: expected 1x1 to {most}x{most}')
        return height, width
    generation = header.get('sensor_generation', header.get('generation', ''))
    return GENERATIONS.get(generation.partition('.')[0])


def open_prophesee(path: str | Path, keep_cut: bool = False) -> RecordReader:
    """Return the reader that fits a file whose header has lines ``% keyword value``.

    Raises:
        InputError: it says another encoding than those that are read.
    """
    header, offset = read_header(path)
    name = re.split(r'[; ]', header.get('format', ''))[0].upper()
    version = name.removeprefix('EVT') if name else header.get('evt', '').strip()
    kind = {'2': Evt2, '2.0': Evt2, '21': Evt21, '2.1': Evt21, '3': Evt3, '3.0': Evt3}.get(version)
    if kind is not None:
        reader = kind(path, sensor_size(path, header, 2048), keep_cut, offset)
        if kind is Evt21:
            reader.choose_order(re.search(r'endianness=(\w+)', header.get('format', '')))
        return reader
    if name or version:
        raise fault(path, 0, f'encoding {name or version!r}: EVT2, EVT21 and EVT3 are read')
    with open(path, 'rb') as file:
        file.seek(offset)
        kind_and_size = file.read(2)
    if len(kind_and_size) == 2 and kind_and_size[0] in (0, 12) and kind_and_size[1] == 8:
        version = re.match(r'\d{1,3}', header.get('version', '2'))
        return Dat(path, sensor_size(path, header, 1 << 14), keep_cut, offset + 2, int(version[0]) if version else 2)
    if 'version' in header or 'data' in header:
        given = f'type {kind_and_size[0]} of {kind_and_size[1]} bytes' if len(kind_and_size) == 2 else 'nothing'
        raise fault(path, offset, f'a .dat file of {given}: expected events of type 0 or 12, of 8 bytes')
    raise fault(path, 0, 'the header names no encoding (a line "% evt 3.0" or "% format EVT3")')


class EvtReader(RecordReader):
    """Base of the raw streams: words whose first four bits are their type.

    >>> sorted(Evt2.TYPES)  # CD_OFF, CD_ON, EVT_TIME_HIGH, EXT_TRIGGER, OTHERS, CONTINUED
    [0, 1, 8, 10, 14, 15]
    """

    TYPES: dict[int, str] = {}

    def check_types(self, offset: int, kinds: np.ndarray) -> None:
        """Refuse a block with many words of types that the format does not have: it is of another format.

        Raises:
            InputError: it has.
        """
        counts = np.bincount(kinds, minlength=16)
        foreign = [kind for kind in range(16) if counts[kind] and kind not in self.TYPES]
        if counts[foreign].sum() > FOREIGN * len(kinds):
            at = int(np.isin(kinds, foreign).argmax())
            raise fault(
                self.path,
                offset + at * self.WORD.itemsize,
                f'word type 0x{kinds[at]:X} is none of {self.FORMAT}, and {counts[foreign].sum()} of {len(kinds)} '
                'words here are such',
            )


class Evt2(EvtReader):
    """EVT 2.0: 32 bits a word; 28 bits of time in words of their own, 6 more, column and row in each event.

    >>> Evt2('a.raw').FORMAT
    'EVT 2.0'
    """

    FORMAT, WORD = 'EVT 2.0', np.dtype('<u4')
    TYPES = dict.fromkeys((0x0, 0x1, 0x8, 0xA, 0xE, 0xF), '')

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield events; those before the first word of time have none, and are left out."""
        last, loops, high = None, 0, -1
        for offset, words in self.words():
            kinds = words >> 28
            self.check_types(offset, kinds)
            is_high = kinds == 0x8
            highs, loops = unwrap(words[is_high] & 0xFFFFFFF, 28, last, loops)
            every = np.concatenate([[high], highs])
            at = np.flatnonzero(kinds <= 0x1)
            found = words[at]
            time = every[np.cumsum(is_high)[at]]
            events = Events(
                (time << 6) | ((found >> 22) & 0x3F).astype(np.int64),
                ((found >> 11) & 0x7FF).astype(np.uint16),
                (found & 0x7FF).astype(np.uint16),
                kinds[at].astype(np.uint8),
            )
            if high < 0:
                events = events.part(time >= 0)
            if len(highs):
                last, high = int(words[is_high][-1] & 0xFFFFFFF), highs[-1]
            yield events


class Evt21(EvtReader):
    """EVT 2.1: 64 bits a word; as EVT 2.0, with 32 pixels of a row in each event word.

    >>> Evt21('a.raw').FORMAT
    'EVT 2.1'
    """

    FORMAT, WORD = 'EVT 2.1', np.dtype('<u8')
    TYPES = Evt2.TYPES
    swapped = False

    def choose_order(self, said: re.Match | None) -> None:
        """Choose the order of the halves of a word: as the header says (little or legacy), else as types make sense."""
        if said:
            self.swapped = said[1] == 'legacy'
            return
        with open(self.path, 'rb') as file:
            file.seek(self.offset)
            data = file.read(1 << 16)
        halves = np.frombuffer(data, '<u4', len(data) // 8 * 2).reshape(-1, 2)
        self.swapped = self._oddities(halves[:, 0], halves[:, 1]) < self._oddities(halves[:, 1], halves[:, 0])

    def _oddities(self, words: np.ndarray, others: np.ndarray) -> int:
        """Return how many words would be odd if one half were the types' and the other the pixels'."""
        kinds = words >> 28
        pixels = (kinds <= 0x1) & ((others == 0) | ((words >> 11) & 31 > 0))
        times = (kinds == 0x8) & (others > 0)
        return int((pixels | times | ~np.isin(kinds, list(self.TYPES))).sum())

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield events; those before the first word of time have none, and are left out."""
        last, loops, high = None, 0, -1
        for offset, both in self.words():
            halves = both.view('<u4').reshape(-1, 2)
            words, valid = halves[:, 1 - self.swapped], halves[:, int(self.swapped)]
            kinds = words >> 28
            self.check_types(offset, kinds)
            is_high = kinds == 0x8
            highs, loops = unwrap(words[is_high] & 0xFFFFFFF, 28, last, loops)
            every = np.concatenate([[high], highs])
            at = np.flatnonzero(kinds <= 0x1)
            found, time = words[at], every[np.cumsum(is_high)[at]]
            bits = np.unpackbits(np.ascontiguousarray(valid[at]).view(np.uint8), bitorder='little')
            hit = np.flatnonzero(bits)
            word = hit >> 5
            events = Events(
                ((time << 6) | ((found >> 22) & 0x3F).astype(np.int64))[word],
                (((found >> 11) & 0x7FF)[word] + (hit & 31)).astype(np.uint16),
                (found & 0x7FF).astype(np.uint16)[word],
                kinds[at].astype(np.uint8)[word],
            )
            if high < 0:
                events = events.part(time[word] >= 0)
            if len(highs):
                last, high = int(words[is_high][-1] & 0xFFFFFFF), highs[-1]
            yield events


class Evt3(EvtReader):
    """EVT 3.0: 16 bits a word; row, time and the start of a run of pixels are said once and hold until they change.

    Time has 24 bits, 12 in each of two words, and starts again every 16.8 s, which is counted.

    >>> Evt3('a.raw').FORMAT
    'EVT 3.0'
    """

    FORMAT, WORD = 'EVT 3.0', np.dtype('<u2')
    TYPES = dict.fromkeys((0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0xA, 0xE, 0xF), '')

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield events; those before the first word of high time have none, and are left out."""
        last, loops, high, low, row, base, polarity = None, 0, -1, 0, 0, 0, 0
        for offset, words in self.words():
            kinds = words >> 12
            self.check_types(offset, kinds)
            rows = carried(kinds == 0x0, words[kinds == 0x0] & 0x7FF, row)
            is_high = kinds == 0x8
            highs, loops = unwrap(words[is_high] & 0xFFF, 12, last, loops)
            high_at = carried(is_high, highs, high)
            # A new high time begins with a low one of 0; one that is said again changes nothing.
            sets_low = kinds == 0x6
            sets_low[np.flatnonzero(is_high)[np.diff(highs, prepend=high) != 0]] = True
            low_at = carried(sets_low, np.where(kinds == 0x6, words & 0xFFF, 0)[sets_low], low)
            run = np.where(kinds == 0x4, 12, np.where(kinds == 0x5, 8, 0))
            passed = np.cumsum(run) - run  # pixels that earlier words of runs have covered
            is_base = kinds == 0x3
            base_at = carried(is_base, (words[is_base] & 0x7FF) - passed[is_base], base) + passed
            polarity_at = carried(is_base, (words[is_base] >> 11) & 1, polarity)

            at = np.flatnonzero((kinds == 0x2) | (run > 0))
            single, found = kinds[at] == 0x2, words[at]
            if single.all():
                word, bit = slice(None), 0
            else:
                valid = np.where(single, 1, np.where(kinds[at] == 0x5, found & 0xFF, found & 0xFFF)).astype('<u2')
                hit = np.flatnonzero(np.unpackbits(valid.view(np.uint8), bitorder='little'))
                word, bit = hit >> 4, hit & 15
            columns = np.where(single, found & 0x7FF, base_at[at])[word] + bit
            if len(columns) and columns.max() > 0x7FF:
                place = at[word][int((columns > 0x7FF).argmax())]
                raise fault(self.path, offset + 2 * int(place), f'a run of pixels ends at x={columns.max()}')
            time = (high_at[at] << 12) | low_at[at]
            events = Events(
                time[word],
                columns.astype(np.uint16),
                rows[at][word].astype(np.uint16),
                np.where(single, (found >> 11) & 1, polarity_at[at])[word].astype(np.uint8),
            )
            yield events.part(high_at[at][word] >= 0) if high < 0 else events
            row, high, low = int(rows[-1]), int(high_at[-1]), int(low_at[-1])
            base, polarity = int(base_at[-1] + run[-1]), int(polarity_at[-1])
            if len(highs):
                last = int(words[is_high][-1] & 0xFFF)


class Dat(RecordReader):
    """Decoded events: 32 bits of time, then 14 of column, 14 of row and 4 of polarity (9, 8 and 1 before version 2).

    >>> Dat('a.dat').FORMAT
    'Prophesee .dat'
    """

    FORMAT, WORD = 'Prophesee .dat', np.dtype([('t', '<u4'), ('address', '<u4')])

    def __init__(
        self,
        path: str | Path,
        sensor_size: tuple[int, int] | None = None,
        keep_cut: bool = False,
        offset: int = 0,
        version: int = 2,
    ) -> None:
        super().__init__(path, sensor_size, keep_cut, offset)
        self.layout = DAT if version >= 2 else LEGACY_DAT

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield events."""
        x_mask, y_shift, y_mask, p_shift = self.layout
        last, loops = None, 0
        for _, words in self.words():
            time, loops = unwrap(words['t'], 32, last, loops)
            last, address = int(words['t'][-1]), words['address']
            yield Events(
                time,
                (address & x_mask).astype(np.uint16),
                ((address >> y_shift) & y_mask).astype(np.uint16),
                ((address >> p_shift) & 1).astype(np.uint8),
            )
