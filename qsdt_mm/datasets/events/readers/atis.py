"""The .bin files of N-MNIST and N-Caltech101: 40 bits an event, no header.

Source: Orchard et al., "Converting static image datasets to spiking neuromorphic datasets using saccades" (2015),
and the description that comes with the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .base import Events, RecordReader

OVERFLOW_ROW = 240  # no pixel, but a sign that the clock has passed 2**13 microseconds
OVERFLOW = 1 << 13
LOOKED_AT = 1 << 12  # events by which the format is told


class AtisBin(RecordReader):
    """Events of 5 bytes: column, row, 1 bit of polarity, 23 bits of time, most significant byte first.

    >>> AtisBin('00002.bin').FORMAT
    '40-bit events (N-MNIST, N-Caltech101)'
    """

    FORMAT, WORD = '40-bit events (N-MNIST, N-Caltech101)', np.dtype(('u1', 5))

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield events; the clock's signs are counted into the time, and left out."""
        passed = 0
        for _, words in self.words():
            yield (block := decoded(words, passed))[0]
            passed = block[1]

    def words(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the offset and the words of each block, five bytes in a row."""
        for offset, words in super().words():
            yield offset, words.reshape(-1, 5)


def decoded(words: np.ndarray, passed: int = 0) -> tuple[Events, int]:
    """Return the events of rows of five bytes, and the signs of overflow so far."""
    x, y, high, middle, low = words.T
    sign = y == OVERFLOW_ROW
    turns = passed + np.cumsum(sign)
    t = ((high & 0x7F).astype(np.int64) << 16) | (middle.astype(np.int64) << 8) | low
    t += turns * OVERFLOW
    events = Events(t, x.astype(np.uint16), y.astype(np.uint16), high >> 7)
    return events.part(~sign), int(turns[-1]) if len(turns) else passed


def looks_like_atis(path: str | Path, data: bytes) -> bool:
    """Return whether a file without a header may be such: time goes on, and its length is right if it is no .bin."""
    called_so = Path(path).suffix.lower() == '.bin'
    words = np.frombuffer(data, np.uint8, len(data) // 5 * 5).reshape(-1, 5)[:LOOKED_AT]
    if not len(words) or not words.any() or os.path.getsize(path) % 5 and not called_so:
        return False
    t = decoded(words)[0].t
    back = (np.diff(t) < 0).sum()
    return len(t) > 0 and back <= 0.001 * len(t) and (called_so or t[-1] > t[0])
