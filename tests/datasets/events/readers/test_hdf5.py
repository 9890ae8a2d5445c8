"""HDF5 files as cameras and data sets lay them out."""

import sys

import numpy as np
import pytest

from qsdt_mm.datasets.events.files import read_events
from qsdt_mm.datasets.events.readers import hdf5
from qsdt_mm.datasets.events.readers.detection import open_events
from qsdt_mm.errors import InputError

h5py = pytest.importorskip('h5py')
ROWS = np.array([(100, 3, 0, 1), (105, 1, 2, 0), (220, 0, 5, 1)])


def listed(events):
    return list(zip(*(values.tolist() for values in events)))


def compound(**options):
    rows = np.zeros(3, [('x', '<u2'), ('y', '<u2'), ('p', '<i2'), ('t', '<i8')])
    for name, values in zip('txyp', ROWS.T):
        rows[name] = values
    return rows


def metavision(file):
    file['CD/events'] = compound()
    file['EXT_TRIGGER/events'] = np.zeros(2, [('p', 'i2'), ('t', 'i8'), ('id', 'i2')])
    file.attrs['geometry'] = '30x20'


def dsec(file):
    for name, values in zip('txyp', ROWS.T):
        file.create_dataset(f'events/{name}', data=values - (50 if name == 't' else 0), compression='gzip')
    file['t_offset'] = np.int64(50)
    file['ms_to_idx'] = np.zeros(4, np.uint64)


def esim(file):
    for name, values in zip(('ts', 'xs', 'ys', 'ps'), ROWS.T):
        file[f'events/{name}'] = values.astype(bool) if name == 'ps' else values
    file['events'].attrs['height'], file['events'].attrs['width'] = 20, 30


def mvsec(file):
    file['davis/left/events'] = (ROWS / [1e6, 1, 1, 1])[:, [1, 2, 0, 3]] * [1, 1, 1, 1]
    file['davis/left/image_raw'] = np.zeros((2, 3, 4), np.uint8)


def shuffled(file):
    for name, values in zip('txyp', ROWS.T):
        options = dict(compression='lzf', shuffle=True, chunks=(2,))
        file.create_dataset(name, data=values.astype('>i4'), fletcher32=True, **options)


@pytest.mark.parametrize('layout', [metavision, dsec, esim, mvsec, shuffled], ids=lambda f: f.__name__)
def test_layouts(tmp_path, monkeypatch, layout):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        layout(file)
    reader = open_events(tmp_path / 'a.h5')
    assert reader.FORMAT == 'HDF5' and listed(reader.read()) == [tuple(row) for row in ROWS.tolist()]
    if layout in (metavision, esim):
        assert reader.sensor_size == (20, 30)
    if layout is not mvsec:  # whose columns and unit are told by the first rows
        monkeypatch.setattr(hdf5, 'ROWS', 2)
        assert len(read_events(tmp_path / 'a.h5').t) == 3


def filtered(file):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((3,))
    plan.set_filter(36559, h5py.h5z.FLAG_OPTIONAL, ())
    group = file.create_group('CD')
    kind, space = h5py.h5t.py_create(compound().dtype), h5py.h5s.create_simple((3,))
    array = h5py.h5d.create(group.id, b'events', kind, space, plan)
    array.write_direct_chunk((0,), compound().tobytes())


def promises(file):
    for name in 'txyp':
        file.create_dataset(name, (1 << 45,), 'i8', chunks=(1 << 10,))


def elsewhere(file):
    for name in 'txyp':
        file.create_dataset(name, (3,), 'i8', external=[('/etc/hostname', 0, 24)])


def links(file):
    for name in 'txyp':
        file[name] = h5py.ExternalLink('other.h5', f'/{name}')


def lengths(file):
    for name, values in zip('txyp', ROWS.T):
        file[name] = values[: 2 if name == 'x' else 3]


FAULTS = {
    'events is compressed with ECF of Prophesee (HDF5 filter 36559), whose plug-in is not installed: build': filtered,
    't promises 35184372088832 values, of which 0 bytes are stored': promises,
    't lies in another file, which is not read': elsewhere,
    'no arrays t, x, y, p in any group': links,
    'differ in length': lengths,
}


@pytest.mark.parametrize('reason', FAULTS)
def test_faults(tmp_path, reason):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        FAULTS[reason](file)
    with pytest.raises(InputError) as error:
        read_events(tmp_path / 'a.h5')
    assert reason in str(error.value) and str(tmp_path / 'a.h5') in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('layout', [metavision, dsec], ids=lambda f: f.__name__)
def test_cut_off_and_damaged_files(tmp_path, layout):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        layout(file)
    whole = (tmp_path / 'a.h5').read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 1):
        (tmp_path / 'b.h5').write_bytes(whole[:length])
        with pytest.raises(InputError, match=r'b\.h5, byte 0: truncated or damaged HDF5'):
            read_events(tmp_path / 'b.h5')
    rng = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(whole)
        for at in rng.integers(8, len(whole), 20):
            damaged[at] = rng.integers(256)
        (tmp_path / 'b.h5').write_bytes(damaged)
        try:
            read_events(tmp_path / 'b.h5')
        except InputError as error:
            assert '\n' not in str(error)


def test_without_h5py(tmp_path, monkeypatch):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        metavision(file)
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(InputError, match='pip install h5py'):
        read_events(tmp_path / 'a.h5')
