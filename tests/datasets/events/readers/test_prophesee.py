"""Prophesee's formats on words written out by hand from their documents."""

import struct

import numpy as np
import pytest

from qsdt_mm.datasets.events.files import read_events
from qsdt_mm.datasets.events.readers import base
from qsdt_mm.datasets.events.readers.detection import open_events
from qsdt_mm.errors import InputError

EVT2 = b'% date 2024-01-01 10:00:00\n% evt 2.0\n% geometry 640x480\n% end\n'
EVT21 = b'%% evt 2.1\n%% format EVT21;endianness=%s;height=720;width=1280\n%% end\n'
EVT3 = b'% evt 3.0\n% format EVT3;height=720;width=1280\n% end\n'


def listed(events):
    return list(zip(*(values.tolist() for values in events)))


def write(path, header, words, kind):
    path.write_bytes(header + struct.pack(f'<{len(words)}{kind}', *words))
    return path


def evt2_words():
    """(t, x, y, p) at 64 * high + low."""
    return [
        0x0_0_000000,  # no time yet: left out
        0x8_0000001,  # high time 1: 64 us
        (0x1 << 28) | (5 << 22) | (639 << 11) | 479,  # brighter, 69 us
        (0x0 << 28) | (63 << 22) | (0 << 11) | 7,  # darker, 127 us
        (0xA << 28) | (1 << 22) | 1,  # a trigger
        0x8_0000002,
        (0x1 << 28) | (0 << 22) | (3 << 11) | 4,  # 128 us
        0xE_0000000,
        0xF_0000000,
    ]


def test_evt2(tmp_path):
    events = read_events(write(tmp_path / 'a.raw', EVT2, evt2_words(), 'I'))
    assert listed(events) == [(69, 639, 479, 1), (127, 0, 7, 0), (128, 3, 4, 1)]
    assert open_events(tmp_path / 'a.raw').sensor_size == (480, 640)
    assert [values.dtype for values in events] == [np.int64] * 4


def test_evt2_time_starts_again(tmp_path):
    words = [0x8FFFFFFF, (0x1 << 28) | (63 << 22), 0x80000000, (0x1 << 28) | (1 << 22)]
    events = read_events(write(tmp_path / 'a.raw', EVT2, words, 'I'))
    assert events.t.tolist() == [(1 << 34) - 1, (1 << 34) + 1]


def evt21_words():
    def word(kind, low, x, y, valid):
        return (kind << 60) | (low << 54) | (x << 43) | (y << 32) | valid

    return [
        word(0x1, 1, 0, 0, 1),  # no time yet
        0x8 << 60 | 2 << 32,  # high time 2: 128 us
        word(0x1, 3, 32, 9, 0x80000001),  # pixels 32 and 63
        word(0x0, 3, 1248, 719, 0x00000006),  # 1249 and 1250, darker
        0xA << 60,
    ]


EVT21_EVENTS = [(131, 32, 9, 1), (131, 63, 9, 1), (131, 1249, 719, 0), (131, 1250, 719, 0)]


def test_evt21(tmp_path):
    events = read_events(write(tmp_path / 'a.raw', EVT21 % b'little', evt21_words(), 'Q'))
    assert listed(events) == EVT21_EVENTS


def test_evt21_with_its_halves_the_other_way_round(tmp_path):
    """0x0102030405060708 travels as 04 03 02 01 08 07 06 05 there."""
    halves = [half for word in evt21_words() for half in (word >> 32, word & 0xFFFFFFFF)]
    for name, header in (('said', EVT21 % b'legacy'), ('unsaid', b'% evt 2.1\n% geometry 1280x720\n% end\n')):
        assert listed(read_events(write(tmp_path / name, header, halves, 'I'))) == EVT21_EVENTS
    unsaid = write(tmp_path / 'b', b'% evt 2.1\n', evt21_words(), 'Q')
    assert listed(read_events(unsaid)) == EVT21_EVENTS


def evt3_words():
    return [
        0x2000,  # no time yet
        0x8001,  # high time 1: 4096 us
        0x6010,  # low time 16
        0x0064,  # row 100
        0x2805,  # column 5, brighter: 4112 us
        0x2006,  # column 6, darker
        0x3800 | 200,  # a run from 200, brighter
        0x4801,  # 12 pixels: 200 and 211
        0x5082,  # 8 more: 213 and 219
        0x7123,
        0x6011,
        0x4001,  # 12 more, after the row and time changed: 220
        0x8001,  # said again: the low time holds
        0x0065,
        0x2001,  # 4113
        0x8002,  # a new one: low time 0
        0x2002,  # 8192
        0xA000,
        0xE000,
        0xF000,
    ]


EVT3_EVENTS = [
    (4112, 5, 100, 1),
    (4112, 6, 100, 0),
    (4112, 200, 100, 1),
    (4112, 211, 100, 1),
    (4112, 213, 100, 1),
    (4112, 219, 100, 1),
    (4113, 220, 100, 1),
    (4113, 1, 101, 0),
    (8192, 2, 101, 0),
]


def test_evt3(tmp_path):
    path = write(tmp_path / 'a.raw', EVT3, evt3_words(), 'H')
    assert listed(read_events(path)) == EVT3_EVENTS
    assert open_events(path).sensor_size == (720, 1280)


@pytest.mark.parametrize('size', [2, 4, 6, 10])
def test_evt3_whatever_the_blocks(tmp_path, monkeypatch, size):
    monkeypatch.setattr(base, 'BLOCK', size)
    assert listed(read_events(write(tmp_path / 'a.raw', EVT3, evt3_words(), 'H'))) == EVT3_EVENTS


def test_evt3_time_starts_again_every_16_s(tmp_path):
    words = [0x8FFF, 0x6FFF, 0x2001, 0x8000, 0x6002, 0x2001]
    assert read_events(write(tmp_path / 'a.raw', EVT3, words, 'H')).t.tolist() == [(1 << 24) - 1, (1 << 24) + 2]


@pytest.mark.parametrize('size', [4, 8, 16])
def test_evt2_whatever_the_blocks(tmp_path, monkeypatch, size):
    monkeypatch.setattr(base, 'BLOCK', size)
    events = read_events(write(tmp_path / 'a.raw', EVT2, evt2_words(), 'I'))
    assert listed(events) == [(69, 639, 479, 1), (127, 0, 7, 0), (128, 3, 4, 1)]


def test_dat(tmp_path):
    """Two bytes of type and size after the header, then time and an address of 14, 14 and 4 bits."""
    header = b'% Data file containing CD events\n% Date 2020-09-14 14:18:29\n% Version 2\n% Width 640\n% Height 480\n'
    words = [10, (1 << 28) | (7 << 14) | 639, 0xFFFFFFFF, (0 << 28) | (479 << 14) | 1, 5, 1 << 28]
    path = write(tmp_path / 'a.dat', header + bytes([12, 8]), words, 'I')
    assert listed(read_events(path)) == [(10, 639, 7, 1), ((1 << 32) - 1, 1, 479, 0), ((1 << 32) + 5, 0, 0, 1)]
    assert open_events(path).sensor_size == (480, 640)


def test_dat_before_version_2(tmp_path):
    words = [10, (1 << 17) | (239 << 9) | 303]
    path = write(
        tmp_path / 'a.dat', b'% Data file containing Event2D events.\n% Version 1\n' + bytes([0, 8]), words, 'I'
    )
    assert listed(read_events(path)) == [(10, 303, 239, 1)]


def test_the_generation_says_the_size_where_nothing_else_does(tmp_path):
    path = write(tmp_path / 'a.raw', b'% evt 3.0\n% generation 4.2\n% end\n', evt3_words(), 'H')
    assert open_events(path).sensor_size == (720, 1280)


FAULTS = {
    'byte 66: the file ends within an event: 3 of 4 bytes (EVT 2.0)': EVT2 + bytes(7),
    "encoding 'EVT4': EVT2, EVT21 and EVT3 are read": b'% format EVT4;height=720;width=1280\n% end\n' + bytes(8),
    'the header names no encoding': b'% date today\n\x00\x01\x02',
    'byte 0: the header has no end': b'% evt 3.0\x00\x01',
    'the header says a sensor of 9999999999x3: expected 1x1 to 2048x2048': b'% evt 3.0\n% geometry 9999999999x3\n\x01',
    'the header says a sensor of 0x3': b'% evt 3.0\n% geometry 0x3\n\x01',
    'byte 12: word type 0x1 is none of EVT 3.0, and 2 of 3 words here': b'% evt 3.0\n' + bytes.fromhex('018000110012'),
    'a .dat file of type 10 of 8 bytes': b'% Data file containing Trigger events\n% Version 2\n\x0a\x08' + bytes(8),
    'x=1300 of event 0 is outside the sensor: expected 0 to 1279': EVT3 + bytes.fromhex('0080 1425'),
    'a run of pixels ends at x=2049': b'% evt 3.0\n' + bytes.fromhex('0080 fe37 0840'),
    'holds no event': EVT3 + bytes.fromhex('0080'),
}


@pytest.mark.parametrize('reason', FAULTS)
def test_faults_are_one_line_with_their_place(tmp_path, reason):
    (tmp_path / 'a.raw').write_bytes(FAULTS[reason])
    with pytest.raises(InputError) as error:
        read_events(tmp_path / 'a.raw')
    text = str(error.value)
    assert reason in text and text.startswith(str(tmp_path / 'a.raw')) and '\n' not in text


def test_what_was_cut_off_can_be_kept(tmp_path):
    (tmp_path / 'a.raw').write_bytes(EVT3 + struct.pack('<4H', 0x8000, 0x6001, 0x0002, 0x2803) + b'\x01')
    assert listed(open_events(tmp_path / 'a.raw', keep_cut=True).read()) == [(1, 3, 2, 1)]
