"""AEDAT 2.0 and 3.1, and the 40-bit files of N-MNIST, on bytes written out by hand."""

import struct

import numpy as np
import pytest

from qsdt_mm.datasets.events.files import read_events
from qsdt_mm.datasets.events.readers import aedat, base
from qsdt_mm.datasets.events.readers.detection import open_events
from qsdt_mm.errors import InputError

DVS = b'#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Timestamps tick is 1 us\r\n'
CHIP = b'# AEChip: eu.seebetter.ini.chips.davis.Davis346blue\r\n'
V3 = b'#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-10-05\r\n#!END-HEADER\r\n'


def listed(events):
    return list(zip(*(values.tolist() for values in events)))


def write(path, *parts):
    path.write_bytes(b''.join(parts))
    return path


def dvs(t, x, y, bit, special=0):
    return struct.pack('>II', special << 15 | y << 8 | x << 1 | bit, t)


def test_dvs128(tmp_path):
    """The last bit is 0 where it became brighter; columns count from the right, rows from below."""
    path = write(tmp_path / 'a.aedat', DVS, dvs(7, 0, 0, 0), dvs(9, 127, 3, 1), dvs(10, 5, 5, 1, special=1))
    assert listed(read_events(path)) == [(7, 127, 127, 1), (9, 0, 124, 0)]
    assert open_events(path).sensor_size == (128, 128)


def test_time_of_32_bits_starts_again(tmp_path):
    times = [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 3]
    path = write(tmp_path / 'a.aedat', DVS, *(dvs(t, 1, 1, 0) for t in times))
    assert np.diff(read_events(path).t).tolist()[0::2] == [1, 4] and read_events(path).t[-1] == (1 << 32) + 3


def test_davis(tmp_path):
    def word(t, x, y, bit, rest=0):
        return struct.pack('>II', y << 22 | x << 12 | bit << 11 | rest, t)

    frame, motion = 1 << 31, 1 << 10
    parts = word(7, 0, 0, 1), word(8, 345, 259, 0), word(9, 1, 1, 1, frame), word(9, 1, 1, 1, motion)
    path = write(tmp_path / 'a.aedat', DVS, CHIP, *parts)
    assert listed(read_events(path)) == [(7, 345, 259, 1), (8, 0, 0, 0)]
    assert open_events(path).sensor_size == (260, 346)
    path = write(tmp_path / 'b.aedat', DVS, CHIP, word(7, 346, 0, 1))
    with pytest.raises(
        InputError, match=f'byte {len(DVS + CHIP)}: column 346, row 0 is outside the sensor of DAVIS346'
    ):
        read_events(path)


def test_an_event_that_begins_with_the_sign_of_a_comment_is_one(tmp_path):
    path = write(tmp_path / 'a.aedat', DVS, CHIP, struct.pack('>II', 0x23000000 | 3 << 12 | 1 << 11, 5))
    assert listed(read_events(path)) == [(5, 342, 259 - (0x23000000 >> 22), 1)]


def packet(events, overflow=0, kind=1, size=8, capacity=None, number=None, source=1):
    number = len(events) if number is None else number
    header = struct.pack('<hhiiiiii', kind, source, size, 4, overflow, capacity or number, number, number)
    return header + b''.join(events)


def polarity(t, x, y, p, valid=1):
    return struct.pack('<Ii', x << 17 | y << 2 | p << 1 | valid, t)


def test_version_3(tmp_path):
    first = packet([polarity(100, 127, 0, 1), polarity(101, 1, 2, 0), polarity(102, 9, 9, 1, valid=0)])
    special = packet([bytes(8)], kind=0)
    frame = packet([bytes(36)], kind=2, size=36)
    later = packet([polarity(5, 3, 4, 0)], overflow=1)
    path = write(tmp_path / 'a.aedat', V3, first, special, frame, later)
    assert listed(read_events(path)) == [(100, 127, 0, 1), (101, 1, 2, 0), ((1 << 31) + 5, 3, 4, 0)]
    assert open_events(path).sensor_size == (128, 128)


def test_packets_with_room_for_more_events(tmp_path):
    """Some programs write the room, others only what is in it."""
    after = packet([polarity(9, 1, 1, 1)])
    for room in (polarity(7, 2, 2, 1) + bytes(16), polarity(7, 2, 2, 1)):
        path = write(tmp_path / 'a.aedat', V3, packet([room], capacity=3, number=1), after)
        assert listed(read_events(path)) == [(7, 2, 2, 1), (9, 1, 1, 1)]


def test_a_window_of_version_3_passes_over_other_packets(tmp_path, monkeypatch):
    seconds = 1_000_000
    packets = [packet([polarity(i * 5 * seconds, 1, 1, 1), polarity(i * 5 * seconds + 9, 2, 1, 0)]) for i in range(9)]
    path = write(tmp_path / 'a.aedat', V3, *packets)
    decoded = []
    decode = aedat.Aedat3._decoded
    monkeypatch.setattr(aedat.Aedat3, '_decoded', staticmethod(lambda *a: decoded.append(1) or decode(*a)))
    events = read_events(path, window=(10 * seconds + 1, 20 * seconds + 1))
    assert events.t.tolist() == [10 * seconds + 9, 15 * seconds, 15 * seconds + 9, 20 * seconds]
    assert len(decoded) == 3
    with pytest.raises(InputError, match=r'holds no event in \[11000000, 12000000\) us'):
        read_events(path, window=(11 * seconds, 12 * seconds))


def forty_bits(t, x, y, p):
    return bytes([x, y]) + (p << 23 | t).to_bytes(3, 'big')


def test_n_mnist(tmp_path):
    parts = forty_bits(1000, 33, 0, 1), forty_bits(0, 0, 240, 0), forty_bits(5, 1, 33, 0)
    for name in ('00002.bin', 'unnamed'):
        path = write(tmp_path / name, *parts)
        assert listed(read_events(path)) == [(1000, 33, 0, 1), (8192 + 5, 1, 33, 0)]


@pytest.mark.parametrize('size', [5, 10, 30])
def test_n_mnist_whatever_the_blocks(tmp_path, monkeypatch, size):
    monkeypatch.setattr(base, 'BLOCK', size)
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 8192, 20))
    parts = [forty_bits(int(t), 3, 4, 1) for t in times[:10]]
    parts += [forty_bits(0, 0, 240, 0), *(forty_bits(int(t), 3, 4, 0) for t in times[:10])]
    events = read_events(write(tmp_path / 'a.bin', *parts))
    assert events.t.tolist() == [*times[:10].tolist(), *(times[:10] + 8192).tolist()]


FAULTS = {
    'the file ends within an event: 3 of 8 bytes (AEDAT 2.0)': DVS + bytes(11),
    'the file ends within an event: 4 of 5 bytes': forty_bits(1, 1, 1, 1) + bytes(4),
    'address 0x00010000 is none of a DVS128': DVS + b'# AEChip: DVS128\r\n' + struct.pack('>II', 1 << 16, 0),
    'Cochlea': DVS + b'# AEChip: ch.unizh.ini.jaer.chip.cochlea.CochleaAMS1c\r\n' + bytes(8),
    'AEDAT 1.0: versions 2.0, 3.1 and 4.0 are read': b'#!AER-DAT1.0\r\n' + bytes(6),
    'the header of AEDAT 3.1 has no line "#!END-HEADER"': b'#!AER-DAT3.1\r\n' + packet([]),
    f'byte {len(V3)}: the file ends within a packet: 8 of 80 bytes': V3 + packet([polarity(1, 1, 1, 1)], number=10),
    f'byte {len(V3)}: the file ends within the header of a packet (9 of 28 bytes)': V3 + bytes(9),
    f'byte {len(V3)}: no packet of AEDAT 3.1: type 99': V3 + packet([], kind=99),
    'polarity events of 2147483647 bytes: expected 8': V3 + packet([], size=0x7FFFFFFF, number=0x7FFFFFFF),
    'of 17179869176 bytes': V3 + packet([], number=0x7FFFFFFF),
    'time is not sorted: event 1 is at 5 us after 90000 us': V3 + packet([polarity(t, 1, 1, 1) for t in (90000, 5)]),
    'x=128 of event 0 is outside the sensor': V3 + packet([polarity(1, 128, 1, 1)]),
}


@pytest.mark.parametrize('reason', FAULTS)
def test_faults_are_one_line_with_their_place(tmp_path, reason):
    path = write(tmp_path / 'a.bin', FAULTS[reason])
    with pytest.raises(InputError) as error:
        read_events(path)
    text = str(error.value)
    assert reason in text and text.startswith(str(path)) and '\n' not in text


def test_what_was_cut_off_can_be_kept(tmp_path):
    whole = V3 + packet([polarity(t, 1, 1, 1) for t in (1, 2, 3)])
    for cut, left in ((4, 2), (8, 2), (30, 0), (len(whole) - len(V3) - 5, 0)):
        path = write(tmp_path / 'a.aedat', whole[:-cut])
        assert sum(len(block.t) for block in open_events(path, keep_cut=True).events()) == left
