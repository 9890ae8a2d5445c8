"""Recordings cut into samples of equal duration, one window in memory at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .readers.base import Events, Reader, joined

UNITS = {'us': 1, 'ms': 1_000, 's': 1_000_000, 'min': 60_000_000}


class Window(NamedTuple):
    """Events of a part of a recording.

    Args:
        number: which window it is; it begins ``number`` strides after the first.
        events: those in it, at least one.

    >>> Window(number=3, events=Events(*np.ones((4, 1), int))).number
    3
    """

    number: int
    events: Events


def duration(text: str) -> int:
    """Return microseconds of ``50ms``, ``0.5s``, ``2000us`` or ``1min``.

    Raises:
        ValueError: it is none of these, or rounds to less than 1 us.

    >>> duration('50ms')
    50000
    """
    found = re.fullmatch(r'\s*(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|min)\s*', text)
    microseconds = round(float(found[1]) * UNITS[found[2]]) if found and len(found[1]) < 16 else 0
    if microseconds < 1:
        raise ValueError(f'{text!r} is no duration: expected a number and us, ms, s or min, as in 50ms')
    return microseconds


def windows(
    reader: Reader, length: int, stride: int, start: int | None = None, end: int | None = None
) -> Iterator[Window]:
    """Yield the windows ``[start + k stride, start + k stride + length)`` that hold events.

    In memory are one window and one block of the file. Gaps are stepped over, whatever time stamps say.

    Args:
        reader: the recording.
        length, stride: microseconds.
        start: of window 0; None: the time of the first event.
        end: where the recording ends; None: after its last event, and the last window may be up to half beyond.

    Raises:
        InputError: the recording is malformed.
    """
    held, number, newest = None, 0, None
    for block in reader.events(start, end):
        held = block if held is None or not len(held.t) else joined([held, block])
        start = int(block.t[0]) if start is None else start
        newest = int(block.t[-1])
        while len(held.t):
            # The first window that does not end before the first event at hand.
            number = max(number, (int(held.t[0]) - start - length) // stride + 1)
            begin = start + number * stride
            if begin + length > newest:  # later blocks may have events of it
                break
            window = _cut(held, begin, begin + length)
            if len(window.t):
                yield Window(number, window)
            number += 1
            held = held.part(slice(int(np.searchsorted(held.t, begin + stride)), None))
        else:
            held = None
    last = end if end is not None else None if newest is None else newest + 1
    while held is not None and len(held.t):
        number = max(number, (int(held.t[0]) - start - length) // stride + 1)
        begin = start + number * stride
        beyond = begin + length - last
        if beyond > (0 if end is not None else length // 2):
            return
        window = _cut(held, begin, begin + length)
        if len(window.t):
            yield Window(number, window)
        number += 1
        held = held.part(slice(int(np.searchsorted(held.t, begin + stride)), None))


def _cut(events: Events, begin: int, end: int) -> Events:
    return events.part(slice(int(np.searchsorted(events.t, begin)), int(np.searchsorted(events.t, end))))
