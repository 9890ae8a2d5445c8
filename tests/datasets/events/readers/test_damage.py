"""Whatever bytes a file has, reading it gives events or one line."""

import io
import struct

import numpy as np
import pytest
from event_samples import random_events

from qsdt_mm.datasets.events.files import read_events
from qsdt_mm.errors import InputError


def words(header, kind, values):
    return header + np.asarray(values).astype(kind).tobytes()


def evt2():
    times = np.arange(60) // 3
    return words(b'% evt 2.0\n% geometry 40x30\n% end\n', '<u4', [1 << 31, *(1 << 28 | times << 22 | 7 << 11 | times)])


def evt21():
    rows = [1 << 63, *((1 << 60) | (i << 54) | (32 << 43) | (i << 32) | 0xF0F for i in range(30))]
    return words(b'% evt 2.1\n% format EVT21;endianness=little\n% end\n', '<u8', np.array(rows, np.uint64))


def evt3():
    some = [0x8001, *(w for i in range(30) for w in (0x6000 | i, i, 0x2805, 0x3003, 0x4F0F, 0x50F0))]
    return words(b'% evt 3.0\n% geometry 1280x720\n% end\n', '<u2', some)


def dat():
    header = b'% Data file containing CD events\n% Version 2\n% Width 40\n% Height 30\n\x0c\x08'
    return words(header, '<u4', [[i, 1 << 28 | i % 30 << 14 | i % 40] for i in range(50)])


def aedat2():
    return words(b'#!AER-DAT2.0\r\n# created today\r\n', '>u4', [[i % 128 << 8 | 3 << 1, i] for i in range(50)])


def aedat3():
    packet = struct.pack('<hhiiiiii', 1, 1, 8, 4, 0, 20, 20, 20)
    data = packet + words(b'', '<u4', [[9 << 17 | i << 2 | 3, i] for i in range(20)])
    return b'#!AER-DAT3.1\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n' + data * 3


def atis():
    return b''.join(bytes([i % 34, 3, 128, 0, i]) for i in range(60))


def npy():
    file = io.BytesIO()
    rows = np.zeros(30, [('t', '<i8'), ('x', '<u2'), ('y', '<u2'), ('p', 'u1')])
    rows['t'] = np.arange(30)
    np.save(file, rows)
    return file.getvalue()


def npz():
    file = io.BytesIO()
    np.savez_compressed(file, **random_events(count=30))
    return file.getvalue()


def text():
    return b't,x,y,p\n' + b''.join(b'%d,%d,3,1\n' % (i, i % 9) for i in range(60))


@pytest.mark.parametrize('make', [evt2, evt21, evt3, dat, aedat2, aedat3, atis, npy, npz, text])
@pytest.mark.filterwarnings('error::RuntimeWarning', 'error::UserWarning')
def test_damaged_files_give_events_or_one_line(tmp_path, make):
    whole, rng, read = make(), np.random.default_rng(0), 0
    path = tmp_path / 'a.dat'
    path.write_bytes(whole)
    assert len(read_events(path).t) >= 20
    for i in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, len(whole) if i % 2 else min(80, len(whole)), 1 + i % 3):
            data[at] = rng.integers(256)
        path.write_bytes(data[: rng.integers(1, len(data))] if i % 5 == 0 else data)
        try:
            events = read_events(path, window=None if i % 3 else (0, 50))
        except InputError as error:
            assert str(error).startswith(str(path)) and '\n' not in str(error) and len(str(error)) < 700
        else:
            read += 1
            assert len({len(values) for values in events}) == 1 and (np.diff(events.t.astype(float)) >= 0).all()
    assert read < 60
