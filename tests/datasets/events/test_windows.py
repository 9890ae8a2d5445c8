"""Recordings cut into windows, whatever the blocks; and whole ones written without being in memory."""

import tracemalloc

import numpy as np
import pytest

from qsdt_mm.datasets.events.files import read_events
from qsdt_mm.datasets.events.readers.base import Events, Reader
from qsdt_mm.datasets.events.windows import duration, windows
from qsdt_mm.datasets.events.writing import stream_npz, write_npz
from qsdt_mm.errors import InputError


class Blocks(Reader):
    """Given times in blocks of a size."""

    def __init__(self, times, size=3):
        super().__init__('made up')
        self.times, self.size = np.array(times, np.int64), size

    def blocks(self, start=None, end=None):
        for at in range(0, len(self.times), self.size):
            t = self.times[at : at + self.size]
            yield Events(t, np.arange(at, at + len(t)) % 7, np.ones(len(t), int), np.zeros(len(t), int))


def cut(*args, **options):
    return [(window.number, window.events.t.tolist()) for window in windows(*args, **options)]


def expected(times, length, stride, start, last):
    """The same by the definition, all in memory."""
    found = []
    for number in range((max(times) - start) // stride + 1):
        begin = start + number * stride
        inside = [t for t in times if begin <= t < begin + length]
        if inside and begin + length <= last:
            found.append((number, inside))
    return found


@pytest.mark.parametrize('size', [1, 3, 100])
@pytest.mark.parametrize(('length', 'stride'), [(50, 50), (50, 20), (20, 50), (1, 1), (900, 100)])
def test_windows_are_what_they_are_by_definition(size, length, stride):
    rng = np.random.default_rng(length + stride)
    times = sorted(rng.integers(1000, 2000, 60).tolist())
    whole = cut(Blocks(times, size), length, stride, times[0], 2000)
    assert whole == expected(times, length, stride, times[0], 2000)
    open_end = cut(Blocks(times, size), length, stride)
    known = expected(times, length, stride, times[0], times[-1] + 1)
    assert open_end[: len(known)] == known and len(open_end) <= len(known) + -(-length // stride)


def test_a_last_window_may_be_half_empty_but_no_more():
    assert cut(Blocks([0, 10, 99]), 100, 100) == [(0, [0, 10, 99])]
    assert cut(Blocks([0, 10, 49]), 100, 100) == [(0, [0, 10, 49])]
    assert cut(Blocks([0, 10, 48]), 100, 100) == []


def test_gaps_take_no_time():
    times = [0, 30, 1 << 60, (1 << 60) + 70]
    assert cut(Blocks(times, 1), 50, 50) == [(0, [0, 30]), ((1 << 60) // 50, [1 << 60])] + (
        [((1 << 60) // 50 + 1, [(1 << 60) + 70])] if (1 << 60) % 50 + 70 > 75 else []
    )


def test_one_window_is_in_memory(monkeypatch):
    class Long(Reader):
        def blocks(self, start=None, end=None):
            for i in range(200):
                t = np.arange(i * 20_000, (i + 1) * 20_000)
                yield Events(t, *(np.zeros(20_000, np.uint16) for _ in 'xyp'))

    tracemalloc.start()
    count = sum(len(window.events.t) for window in windows(Long('long'), 10_000, 10_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200 * 20_000 and peak < 6e6  # all of it would be 56 MB


@pytest.mark.parametrize(
    ('text', 'value'), [('50ms', 50_000), ('0.5s', 500_000), ('2000us', 2000), ('1min', 60_000_000), (' .5 ms ', 500)]
)
def test_durations(text, value):
    assert duration(text) == value


@pytest.mark.parametrize('text', ['50', 'ms', '0ms', '-5ms', '0.1us', '5 hours', '1e3ms', '9' * 400 + 's', 'nan s'])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match='is no duration: expected a number and us, ms, s or min'):
        duration(text)


@pytest.mark.parametrize('offset', [0, 1 << 40, -5])
def test_written_as_a_whole_and_in_blocks_is_the_same(tmp_path, offset):
    reader = Blocks(np.arange(100) + offset, 7)
    count, size = stream_npz(tmp_path / 'a.npz', reader.events())
    assert (count, size) == (100, (2, 7)) and [path.name for path in tmp_path.iterdir()] == ['a.npz']
    write_npz(tmp_path / 'b.npz', reader.read())
    for one, other, third in zip(read_events(tmp_path / 'a.npz'), read_events(tmp_path / 'b.npz'), reader.read()):
        assert one.dtype == other.dtype and np.array_equal(one, other) and np.array_equal(one, third)
    with pytest.raises(InputError, match='c holds no event'):
        stream_npz(tmp_path / 'c.npz', [])
