"""Blocks of events that all readers share: their order, their place on the sensor, and faults with an offset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from qsdt_mm.errors import InputError

BLOCK = 1 << 20  # bytes that are decoded at a time
MOST_EVENTS = 1 << 27  # in memory at once, 4 GiB
DISORDER = 10_000  # microseconds by which an event may be late and is put in order


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

    def part(self, chosen: Any) -> Events:
        """Return some of the events: a slice, a mask, or their indices."""
        return Events(*(values[chosen] for values in self))


def joined(parts: list[Events]) -> Events:
    """Return the events of several blocks as one."""
    return parts[0] if len(parts) == 1 else Events(*(np.concatenate(values) for values in zip(*parts)))


def nothing() -> Events:
    """Return a block without events."""
    return Events(np.zeros(0, np.int64), np.zeros(0, np.uint16), np.zeros(0, np.uint16), np.zeros(0, np.uint8))


def fault(path: str | Path, offset: int, reason: str) -> InputError:
    """Return the error of a malformed file, in the one form that all readers use."""
    return InputError(f'{path}, byte {offset}: {reason}')


class Reader:
    """A recording whose events come in blocks: times in int64 microseconds, columns and rows from the top left.

    Subclasses yield blocks as they stand in the file (:meth:`blocks`); :meth:`events` checks and orders them. Nothing
    of the file is in memory but the block at hand.

    Args:
        path: the file.
        sensor_size: ``(H, W)``; None where the file does not say it.
        keep_cut: read a file that ends within an event up to there, rather than refuse it.

    >>> class Three(Reader):
    ...     FORMAT = 'three events'
    ...     def blocks(self, start=None, end=None):
    ...         yield Events(np.array([7, 5, 9]), *(np.array([1, 0, 1]) for _ in 'xyp'))
    >>> Three('nowhere').read().t.tolist()
    [5, 7, 9]
    """

    FORMAT = ''
    time_unit: str | None = None  # of files that do not say it: s, ms, us or ns; None: as the numbers look

    def __init__(self, path: str | Path, sensor_size: tuple[int, int] | None = None, keep_cut: bool = False) -> None:
        self.path, self.sensor_size, self.keep_cut = path, sensor_size, keep_cut
        self.position = 0  # bytes that have been read

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield events as they stand in the file; what is outside of ``[start, end)`` may be left out."""
        raise NotImplementedError

    def events(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield events in order, those of ``[start, end)`` in microseconds, each block with some.

        Raises:
            InputError: the file is malformed, time goes back by more than 10 ms, or an event is outside the sensor.
        """
        late, count, newest = nothing(), 0, None
        for block in self.blocks(start, end):
            if not len(block.t):
                continue
            self._check_places(block, count)
            before = block.t[0] if newest is None else newest
            highest = np.maximum(np.maximum.accumulate(block.t), before)
            behind = highest - block.t
            if behind.max() > DISORDER:
                at = int((behind > DISORDER).argmax())
                raise InputError(
                    f'{self.path}: time is not sorted: event {count + at} is at {block.t[at]} us after {highest[at]} us'
                )
            count, newest = count + len(block.t), highest[-1]
            block = joined([late, block]) if len(late.t) else block
            if (block.t[1:] < block.t[:-1]).any():
                block = block.part(np.argsort(block.t, kind='stable'))
            settled = int(np.searchsorted(block.t, newest - DISORDER, side='right'))
            late = block.part(slice(settled, None))
            yield from self._within(block.part(slice(settled)), start, end)
            if end is not None and newest - DISORDER >= end:
                return
        yield from self._within(late, start, end)

    def read(self, start: int | None = None, end: int | None = None) -> Events:
        """Return all events, those of ``[start, end)`` in microseconds, as :func:`read_events` does.

        Raises:
            InputError: as :meth:`events`; or there is none, or more than fit into memory.
        """
        parts, count = [], 0
        for block in self.events(start, end):
            parts.append(block)
            count += len(block.t)
            if count > MOST_EVENTS:
                raise InputError(
                    f'{self.path}: over {MOST_EVENTS:,} events in one sample: cut the recording into windows '
                    '(tools/dataset_converters/events_to_npz.py --window)'
                )
        if not parts:
            where = '' if start is None and end is None else f' in [{start}, {end}) us'
            raise InputError(f'{self.path} holds no event{where}')
        events = joined(parts)
        return Events(events.t, *(values.astype(np.int64) for values in events[1:]))

    def _within(self, block: Events, start: int | None, end: int | None) -> Iterator[Events]:
        first = 0 if start is None else int(np.searchsorted(block.t, start))
        last = len(block.t) if end is None else int(np.searchsorted(block.t, end))
        if first < last:
            yield block.part(slice(first, last))

    def _check_places(self, block: Events, count: int) -> None:
        if self.sensor_size is None:
            return
        for name, values, side in (('x', block.x, self.sensor_size[1]), ('y', block.y, self.sensor_size[0])):
            outside = values >= side
            if outside.any():
                at = int(outside.argmax())
                raise InputError(
                    f'{self.path}: {name}={values[at]} of event {count + at} is outside the sensor: '
                    f'expected 0 to {side - 1}'
                )


class RecordReader(Reader):
    """A reader of files that are a header and then words of one size.

    Args:
        path, sensor_size, keep_cut: as in :class:`Reader`.
        offset: where the words begin.

    >>> RecordReader('a.raw', offset=12).offset
    12
    """

    WORD = np.dtype('u1')

    def __init__(
        self,
        path: str | Path,
        sensor_size: tuple[int, int] | None = None,
        keep_cut: bool = False,
        offset: int = 0,
    ) -> None:
        super().__init__(path, sensor_size, keep_cut)
        self.offset = offset

    def words(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the offset and the words of each block.

        Raises:
            InputError: the file ends within a word; nothing is yielded then.
        """
        with open(self.path, 'rb') as file:
            size = os.fstat(file.fileno()).st_size
            over = (size - self.offset) % self.WORD.itemsize
            if over and not self.keep_cut:
                raise fault(
                    self.path,
                    size - over,
                    f'the file ends within an event: {over} of {self.WORD.itemsize} bytes ({self.FORMAT})',
                )
            file.seek(self.offset)
            offset = self.offset
            while data := read_up_to(file, BLOCK // self.WORD.itemsize * self.WORD.itemsize):
                words = np.frombuffer(data, self.WORD, len(data) // self.WORD.itemsize)
                if len(words):
                    yield offset, words
                offset += len(data)
                self.position = offset


def read_up_to(file: BinaryIO, size: int) -> bytes:
    """Return the next bytes, fewer only at the end of the file."""
    data = file.read(size)
    while data and len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def unwrap(values: np.ndarray, bits: int, last: int | None, loops: int) -> tuple[np.ndarray, int]:
    """Return int64 values of a counter that starts again from 0, and how often it has.

    It did where a value is less than the one before by half of what the counter holds, or more.

    Args:
        values: as counted, below ``2**bits``.
        bits: width of the counter.
        last: the value before the first; None where there is none.
        loops: how often the counter had started again then.

    >>> unwrap(np.array([250, 3, 9]), 8, 240, 1)
    (array([506, 515, 521]), 2)
    """
    values = values.astype(np.int64)
    again = np.diff(values, prepend=values[:1] if last is None else last) <= -(1 << (bits - 1))
    turns = loops + np.cumsum(again)
    return values + (turns << bits), int(turns[-1]) if len(turns) else loops


def carried(at: np.ndarray, values: np.ndarray, before: int) -> np.ndarray:
    """Return for each word the last value that was set by it or a word before it.

    Args:
        at: mask of the words that set a value.
        values: what they set.
        before: what was set before the first word.
    """
    return np.concatenate([[before], values])[np.cumsum(at)]
