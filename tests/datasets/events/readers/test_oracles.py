"""Readers beside independent ones, on random streams: pip install evt3 evlib aedat flatbuffers, then -m oracle.

None of them is needed for anything else.
"""

import struct

import numpy as np
import pytest

from qsdt_mm.datasets.events.files import read_events

pytestmark = pytest.mark.oracle
HEADERS = {
    2: b'% evt 2.0\n% geometry 1280x720\n% end\n',
    21: b'% evt 2.1\n% format EVT21;endianness=little;height=720;width=1280\n% end\n',
    3: b'% evt 3.0\n% format EVT3;height=720;width=1280\n% end\n',
}


def evt3_words(rng, count):
    """A stream of high and low times, rows, single pixels and runs, as a camera of 1280 x 720 sends it."""
    words, time = [0x8000, 0x6000], 0
    for _ in range(count):
        before, time = time, time + int(rng.integers(0, 3000))
        if time >> 12 != before >> 12:
            words.append(0x8000 | (time >> 12) & 0xFFF)
        words.append(0x6000 | time & 0xFFF)
        words.append(int(rng.integers(720)))
        if rng.random() < 0.5:
            words += [0x2000 | int(rng.integers(2)) << 11 | int(rng.integers(1280)) for _ in range(rng.integers(4))]
        else:
            words.append(0x3000 | int(rng.integers(2)) << 11 | int(rng.integers(1200)))
            words += [
                0x4000 | int(rng.integers(4096)),
                0x4000 | int(rng.integers(4096)),
                0x5000 | int(rng.integers(256)),
            ]
        if rng.random() < 0.1:
            words += [0xA001, 0xE123, 0x7001]
    return struct.pack(f'<{len(words)}H', *words)


def evt2_words(rng, count, wide=False):
    words, time = [], 0
    for i in range(count):
        before, time = time, time + int(rng.integers(0, 40))
        if i == 0 or time >> 6 != before >> 6:
            words.append(0x8 << 28 | time >> 6)
            words += [0] * wide
        x = int(rng.integers(40)) * 32 if wide else int(rng.integers(1280))
        words.append(int(rng.integers(2)) << 28 | (time & 63) << 22 | x << 11 | int(rng.integers(720)))
        words += [int(rng.integers(1, 1 << 32))] * wide
    if wide:
        words = [half for pair in zip(words[1::2], words[0::2]) for half in pair]
    return struct.pack(f'<{len(words)}I', *words)


def written(path, kind, seed=0, count=20_000):
    rng = np.random.default_rng(seed)
    data = evt3_words(rng, count) if kind == 3 else evt2_words(rng, count, wide=kind == 21)
    path.write_bytes(HEADERS[kind] + data)
    return path


@pytest.mark.parametrize('seed', range(3))
def test_evt3_beside_evt3(tmp_path, seed):
    evt3 = pytest.importorskip('evt3')
    path = written(tmp_path / 'a.raw', 3, seed)
    ours, theirs = read_events(path), evt3.decode_file(str(path))
    assert len(ours.t) > 20_000 and ours.t[-1] > 1 << 24
    for one, other in zip(ours, (theirs.t, theirs.x, theirs.y, theirs.p)):
        assert np.array_equal(one, other)


def of_evlib(path):
    evlib = pytest.importorskip('evlib')
    table = evlib.load_events(str(path), sort=False).collect()
    return (
        table['t'].dt.total_microseconds().to_numpy(),
        table['x'].to_numpy(),
        table['y'].to_numpy(),
        (table['polarity'].to_numpy() > 0).astype(int),
    )


@pytest.mark.parametrize('kind', HEADERS)
def test_raw_beside_evlib(tmp_path, kind):
    path = written(tmp_path / 'a.raw', kind)
    ours = read_events(path)
    assert len(ours.t) >= 20_000
    for one, other in zip(ours, of_evlib(path)):
        assert np.array_equal(one, other)


def test_hdf5_and_text_beside_evlib(tmp_path):
    h5py = pytest.importorskip('h5py')
    rng = np.random.default_rng(0)
    t, x, y, p = np.sort(rng.integers(0, 10**7, 5000)), *(rng.integers(0, n, 5000) for n in (640, 480, 2))
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        for name, values in dict(t=t, x=x, y=y, p=p).items():
            file.create_dataset(f'events/{name}', data=values, compression='gzip')
    np.savetxt(tmp_path / 'a.txt', np.stack([t / 1e6, x, y, p], 1), '%.6f %d %d %d')
    for name in ('a.h5', 'a.txt'):
        for one, other, mine in zip(read_events(tmp_path / name), of_evlib(tmp_path / name), (t, x, y, p)):
            assert np.array_equal(one, mine)
            # Stamps that it reads as seconds it cuts off to microseconds: up to one less.
            assert np.abs(one - other).max() <= (1 if mine is t and name == 'a.txt' else 0)


def test_aedat4_beside_its_events(tmp_path):
    import aedat4_files

    flatbuffers = pytest.importorskip('flatbuffers')
    pytest.importorskip('aedat')
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(1_600_000_000_000_000, 1_600_000_001_000_000, 900))
    rows = [(int(t), int(rng.integers(346)), int(rng.integers(260)), int(rng.integers(2))) for t in times]
    packets = [rows[i : i + 100] for i in range(0, 900, 100)]
    (tmp_path / 'a.aedat4').write_bytes(aedat4_files.aedat4(flatbuffers, packets))
    ours = read_events(tmp_path / 'a.aedat4', (260, 346))
    assert list(zip(*(values.tolist() for values in ours))) == rows
    if pytest.importorskip('evlib'):
        assert all(np.array_equal(one, other) for one, other in zip(ours, of_evlib(tmp_path / 'a.aedat4')))
