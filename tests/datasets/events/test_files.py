"""Files of events: both layouts, and every fault in one line that names the file."""

import pickle
import zipfile

import numpy as np
import pytest
from event_samples import random_events, write

from qsdt_mm.datasets.events.files import read_events, read_frames
from qsdt_mm.errors import InputError

SIZE = (20, 30)


def test_separate_and_structured_arrays_are_the_same(tmp_path):
    fields = random_events()
    structured = np.zeros(len(fields['t']), [('x', 'i2'), ('y', 'i2'), ('t', 'i8'), ('p', '?')])
    for name, values in fields.items():
        structured[name] = values
    np.savez(tmp_path / 'structured.npz', events=structured)
    one, other = read_events(write(tmp_path / 'a.npz'), SIZE), read_events(tmp_path / 'structured.npz', SIZE)
    for name, values in fields.items():
        assert np.array_equal(getattr(one, name), values) and np.array_equal(getattr(other, name), values)
    assert one.sensor_size == SIZE


def test_other_arrays_are_not_read(tmp_path):
    events = read_events(write(tmp_path / 'a.npz', label=np.array(3), notes=np.array([None])), SIZE)
    assert len(events.t) == 200


def test_polarity_of_minus_one_is_zero_and_whole_floats_pass(tmp_path):
    p = np.where(random_events()['p'] == 0, -1, 1)
    events = read_events(write(tmp_path / 'a.npz', p=p, x=random_events()['x'].astype(float)), SIZE)
    assert np.array_equal(events.p, random_events()['p']) and events.x.dtype == np.int64


NAMES = ['ts x y pol', 'timestamps x y polarities', 'timestamp x y polarity', 'T X Y P', 'Ts Xs Ys Ps', 'time x y p']


@pytest.mark.parametrize('names', NAMES)
def test_other_names_of_fields(tmp_path, names):
    fields = {name: random_events()[key] for name, key in zip(names.split(), 'txyp')}
    structured = np.zeros(200, [(name, 'i8') for name in fields])
    for name, values in fields.items():
        structured[name] = values
    np.savez(tmp_path / 'a.npz', sensor=np.zeros(2), **fields)
    np.savez(tmp_path / 'b.npz', events=structured)
    for name in ('a.npz', 'b.npz'):
        for one, other in zip(read_events(tmp_path / name, SIZE), random_events().values()):
            assert np.array_equal(one, other)


def test_the_first_name_goes_before_others(tmp_path):
    events = read_events(write(tmp_path / 'a.npz', time=np.array(3.5), T=np.zeros(1), polarity=np.zeros(7)), SIZE)
    assert np.array_equal(events.t, random_events()['t']) and np.array_equal(events.p, random_events()['p'])


@pytest.mark.parametrize('kind', ['m8[us]', 'm8[ns]', 'm8[ms]', 'M8[us]', 'M8[ns]', 'm8'])
def test_stamps_of_numpys_time_types(tmp_path, kind):
    events = read_events(write(tmp_path / 'a.npz', t=random_events()['t'].astype(np.int64).astype(kind)), SIZE)
    assert events.t.dtype == np.int64 and np.array_equal(events.t, random_events()['t'])


def test_arrays_of_unknown_columns_are_listed(tmp_path):
    np.savez(tmp_path / 'a.npz', data=np.zeros((5, 4)), label=np.array(3))
    with pytest.raises(InputError, match=r'no field t, x, y, p: .*; it has data \(5, 4\), label \(\)$'):
        read_events(tmp_path / 'a.npz')
    np.savez(tmp_path / 'b.npz', **{f'a_long_name_{i}': np.zeros(1) for i in range(99)})
    with pytest.raises(InputError) as error:
        read_events(tmp_path / 'b.npz')
    assert str(error.value).endswith('...') and len(str(error.value)) < 400
    np.savez(tmp_path / 'c.npz')
    with pytest.raises(InputError, match='it has nothing'):
        read_events(tmp_path / 'c.npz')


def changed(name, at, value, kind=np.int64):
    values = random_events()[name].astype(kind)
    values[at] = value
    return {name: values}


FAULTS = {
    'has no field y, p: expected t, x, y, p; it has t (200,), x (200,)': dict(y=None, p=None),
    'has both ts and Time: expected one of them, or t': dict(t=None, ts=np.arange(200), Time=np.arange(200)),
    'holds no event': {name: np.zeros(0, int) for name in 'txyp'},
    'time is not sorted: event 7 is at 0 after ': changed('t', 7, 0, np.uint64),
    'time stamps must be finite numbers': changed('t', 7, np.nan, float),
    ': time stamps must be finite numbers': changed('t', 7, np.timedelta64('NaT'), 'm8[us]'),
    'x=30 is outside the sensor: expected 0 to 29 (1 events)': changed('x', 3, 30),
    'y=-1 is outside the sensor: expected 0 to 19 (1 events)': changed('y', 3, -1),
    'polarity 2: expected 0 and 1, or -1 and 1': changed('p', 3, 2),
    'x must be whole numbers, got float64': changed('x', 3, 0.5, float),
    'x must be whole numbers, got <U1': dict(x=np.array(['a'] * 200)),
    't, x, y, p must be one-dimensional and equally long': dict(x=np.zeros(3, int)),
    'one-dimensional and equally long, got t (200,), x (200, 1)': dict(x=np.zeros((200, 1), int)),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_faults_are_one_line(tmp_path, fault):
    path = write(tmp_path / 'bad.npz', **FAULTS[fault])
    with pytest.raises(InputError) as error:
        read_events(path, SIZE)
    text = str(error.value)
    assert str(path) in text and fault in text and '\n' not in text


class Bomb:
    """An object whose unpickling would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def test_pickled_objects_are_not_executed(tmp_path):
    trace = tmp_path / 'executed'
    objects = np.empty(200, object)
    objects[:] = Bomb(trace)
    np.savez(tmp_path / 'objects.npz', **{**random_events(), 'x': objects})
    (tmp_path / 'pickle.npz').write_bytes(pickle.dumps(Bomb(trace)))
    for name, fault in (('objects', 'x holds pickled objects, which are not loaded'), ('pickle', 'is not an npz file')):
        with pytest.raises(InputError, match=fault):
            read_events(tmp_path / f'{name}.npz')
    assert not trace.exists()


def test_what_is_not_an_npz_is_refused(tmp_path):
    (tmp_path / 'text.npz').write_text('no')
    (tmp_path / 'empty.npz').write_bytes(b'')
    np.save(tmp_path / 'array.npy', np.zeros(3))
    (tmp_path / 'array.npy').rename(tmp_path / 'array.npz')
    whole = write(tmp_path / 'whole.npz').read_bytes()
    (tmp_path / 'cut.npz').write_bytes(whole[: len(whole) // 2])
    for name in ('text', 'empty', 'array', 'cut'):
        with pytest.raises(InputError, match=f'{name}.npz is not an npz file'):
            read_events(tmp_path / f'{name}.npz')
    with pytest.raises(InputError, match='absent.npz does not exist'):
        read_events(tmp_path / 'absent.npz')


def test_damaged_bytes_are_noticed(tmp_path):
    path = write(tmp_path / 'a.npz')
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo('x.npy').header_offset
    data = bytearray(path.read_bytes())
    data[start + 300] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match='x cannot be read'):
        read_events(path)


def test_frames(tmp_path):
    frames = np.random.default_rng(0).integers(0, 9, (4, 2, 5, 6))
    np.savez(tmp_path / 'a.npz', frames=frames)
    read = read_frames(tmp_path / 'a.npz', 4)
    assert read.dtype == np.float32 and np.array_equal(read, frames)
    with pytest.raises(InputError, match='a.npz holds 4 frames: expected num_frames=8'):
        read_frames(tmp_path / 'a.npz', 8)
    np.savez(tmp_path / 'b.npz', frames=frames[:, 0])
    with pytest.raises(InputError, match=r'b.npz: frames \(4, 5, 6\) int64: expected numbers \(T, 2, H, W\)'):
        read_frames(tmp_path / 'b.npz')
    with pytest.raises(InputError, match='has no field frames: expected frames; it has t .* p '):
        read_frames(write(tmp_path / 'c.npz'))
    below = np.where(np.arange(240).reshape(4, 2, 5, 6) == 7, -142.0, 1.0)
    np.savez(tmp_path / 'd.npz', Frames=below)
    with pytest.raises(InputError, match=r'none is negative: got -142 \(1 of 240 are\)'):
        read_frames(tmp_path / 'd.npz')
