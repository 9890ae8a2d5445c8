"""AEDAT 4.0: what is checked before the package that reads it is asked; what that makes of it is in test_oracles.py."""

import sys

import aedat4_files
import numpy as np
import pytest

from qsdt_mm.datasets.events.files import read_events
from qsdt_mm.datasets.events.readers.aedat4 import check_structure
from qsdt_mm.datasets.events.readers.detection import open_events
from qsdt_mm.errors import InputError

flatbuffers = pytest.importorskip('flatbuffers')
PACKETS = [[(100, 3, 0, 1), (105, 1, 2, 0)], [(220, 345, 259, 1)]]


@pytest.fixture(scope='module')
def whole():
    return aedat4_files.aedat4(flatbuffers, PACKETS)


class Package:
    """Stands for the package where it is not installed: gives what it says it gives."""

    class Decoder:
        def __init__(self, path):
            self.packets = iter(PACKETS)

        def id_to_stream(self):
            return {1: dict(type='frame', width=346, height=260), 0: dict(type='events', width=346, height=260)}

        def __iter__(self):
            return self

        def __next__(self):
            rows = np.array(next(self.packets), [('t', '<u8'), ('x', '<u2'), ('y', '<u2'), (('p', 'on'), '?')])
            return dict(stream_id=0, events=rows)


def test_events_of_the_package(tmp_path, monkeypatch, whole):
    monkeypatch.setitem(sys.modules, 'aedat', Package)
    (tmp_path / 'a.raw').write_bytes(whole)
    reader = open_events(tmp_path / 'a.raw')
    assert reader.sensor_size == (260, 346)
    assert list(zip(*(values.tolist() for values in reader.read()))) == [row for rows in PACKETS for row in rows]


def test_without_the_package(tmp_path, monkeypatch, whole):
    monkeypatch.setitem(sys.modules, 'aedat', None)
    (tmp_path / 'a.aedat4').write_bytes(whole)
    with pytest.raises(InputError, match='AEDAT 4.0 needs the package aedat: pip install aedat'):
        read_events(tmp_path / 'a.aedat4')


def test_wherever_it_is_cut_off(tmp_path, whole):
    path = tmp_path / 'a.aedat4'
    path.write_bytes(whole)
    check_structure(path, keep_cut=False)
    last = len(aedat4_files.packet(flatbuffers, PACKETS[1]))
    ends = {len(whole), len(whole) - last}  # between packets nothing shows
    for length in [*range(14, 60), *range(60, len(whole) - 130, 40), *range(len(whole) - 130, len(whole))]:
        path.write_bytes(whole[:length])
        if length not in ends and length != len(whole) - last - len(aedat4_files.packet(flatbuffers, PACKETS[0])):
            with pytest.raises(InputError, match=r'a\.aedat4, byte \d+: '):
                check_structure(path, keep_cut=False)


def test_damaged_headers(tmp_path, whole):
    path, rng = tmp_path / 'a.aedat4', np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        data = bytearray(whole)
        data[rng.integers(14, 60)] = rng.integers(256)
        path.write_bytes(data)
        try:
            check_structure(path, keep_cut=False)
        except InputError as error:
            refused += 1
            assert '\n' not in str(error)
    assert refused > 50
    path.write_bytes(whole.replace(b'<dv version', b'<!DOCTYPE x'))
    with pytest.raises(InputError, match='is no plain XML'):
        check_structure(path, keep_cut=False)
