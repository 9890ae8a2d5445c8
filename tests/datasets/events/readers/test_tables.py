"""numpy's files and text: which column is which, which unit time has, and what is refused."""

import io
import struct
import zipfile

import numpy as np
import pytest
from event_samples import random_events

from qsdt_mm.datasets.events.files import read_events
from qsdt_mm.datasets.events.readers import arrays, text
from qsdt_mm.datasets.events.readers.detection import open_events
from qsdt_mm.errors import InputError

EVENTS = [(100, 3, 0, 1), (105, 1, 2, 0), (220, 0, 5, 1)]


def listed(events):
    return list(zip(*(values.tolist() for values in events)))


TEXTS = {
    't x y p': '100 3 0 1\n105 1 2 0\n220 0 5 1\n',
    'commas': '100,3,0,1\n105,1,2,0\n220,0,5,1',
    'semicolons, Windows': '100; 3; 0; 1\r\n105; 1; 2; 0\r\n220; 0; 5; 1\r\n',
    'tabs and empty lines': '\n100\t3\t0\t1\n\n105\t1\t2\t0\n220\t0\t5\t1\n\n',
    'minus one': '100 3 0 1\n105 1 2 -1\n220 0 5 1\n',
    'x y p t': '3,0,1,100\n1,2,0,105\n0,5,1,220\n',
    'x y t p': '3 0 100 1\n1 2 105 0\n0 5 220 1\n',
    'names': 'x,y,polarity,timestamp\n3,0,1,100\n1,2,0,105\n0,5,1,220\n',
    'more columns': 'id;t;x;y;pol\n9;100;3;0;1\n9;105;1;2;0\n9;220;0;5;1\n',
    'seconds': '0.000100 3 0 1\n0.000105 1 2 0\n0.000220 0 5 1\n',
    'floats': '1.000000e+02 3.0e+00 0 1\n1.05e+02 1 2.0 0\n2.2e+02 0 5 1.0\n',
    'remarks': '# recorded today\n% geometry 30x20\n100 3 0 1\n# here it moved\n105 1 2 0\n220 0 5 1\n',
    'names in a remark': '# t x y p\n100 3 0 1\n105 1 2 0\n220 0 5 1\n',
    'a mark before all': '\ufefft,x,y,p\n100,3,0,1\n105,1,2,0\n220,0,5,1\n',
    'a sensor before all': '30 20\n100 3 0 1\n105 1 2 0\n220 0 5 1\n',
}


@pytest.mark.parametrize('kind', TEXTS)
def test_text(tmp_path, monkeypatch, kind):
    path = tmp_path / 'a.txt'
    path.write_bytes(TEXTS[kind].encode())
    assert listed(read_events(path)) == EVENTS
    if kind not in ('x y p t', 'x y t p', 'seconds'):  # which are told by more than one line
        for lines in (1, 2):
            monkeypatch.setattr(text, 'LINES', lines)
            assert listed(read_events(path)) == EVENTS
    if 'sensor' in kind or kind == 'remarks':
        assert open_events(path).sensor_size == (20, 30)


TEXT_FAULTS = {
    "byte 10: line 2 is no event: '105 1 two 0'": '100 3 0 1\n105 1 two 0\n',
    "line 3 is no event: '220 0 5'": '100 3 0 1\n105 1 2 0\n220 0 5\n',
    "line 2 is no event: 'nonsense": '100 3 0 1\nnonsense\n',
    'which column is time and which polarity': '100 3 0 7\n105 1 2 8\n',
    '3 columns without names': '100 3 0\n',
    'byte 0: line 1 is no event, nor does it name columns t, x, y, p': 'a,b,c,d\n100,3,0,1\n',
    'lines of 4 numbers under the names t, x, y, p, label': 't,x,y,p,label\n100,3,0,1\n',
    'x 70000.0 of event 1: expected a whole number, 0 to 65535': 't x y p\n1 3 4 1\n2 70000 4 1\n',
    'y -1.0 of event 0': 't x y p\n1 3 -1 1\n',
    'time stamps must be finite numbers': 't x y p\n1 3 1 1\nnan 3 1 1\n',
    'too far away': 't x y p\n1 3 1 1\n1e300 3 1 1\n',
    'text that is no table of events': '{"t": [1]}',
    'holds no event': 't x y p\n',
    'a sensor of 999999999 x 999999999': '99999999999 99999999999\n1 1 1 1\n',
    'has over 1024 characters': ' ' * 2000,
}


@pytest.mark.parametrize('reason', TEXT_FAULTS)
def test_text_faults(tmp_path, reason):
    (tmp_path / 'a.txt').write_text(TEXT_FAULTS[reason])
    with pytest.raises(InputError) as error:
        read_events(tmp_path / 'a.txt')
    assert reason in str(error.value) and str(error.value).startswith(str(tmp_path)) and '\n' not in str(error.value)


def columns(kind=float):
    return np.array(EVENTS, kind)


def structured(t='i8'):
    rows = np.zeros(3, [('x', 'u2'), ('y', 'u2'), ('p', 'i1'), ('t', t)])
    for name, values in zip('txyp', columns().T):
        rows[name] = values if t[0] != 'm' else values.astype('i8').astype(t)
    return rows


ARRAYS = {
    'structured': structured(),
    'structured, big-endian': structured().astype([('ts', '>i8'), ('x', '>i2'), ('y', '>i2'), ('p', '?')][::-1]),
    'milliseconds': structured('m8[ns]'),
    'four columns': columns(int),
    'columns as floats': columns(),
    'saved by columns': np.asfortranarray(columns(int)),
    'x y t p': columns(np.int32)[:, [1, 2, 0, 3]],
    'x y p t': columns(np.int64)[:, [1, 2, 3, 0]],
    'seconds': columns() / [1e6, 1, 1, 1],
}
ARRAYS['structured, big-endian'] = np.zeros(3, [('p', '?'), ('ts', '>i8'), ('x', '>i2'), ('y', '>i2')])
for _name, _values in zip(('ts', 'x', 'y', 'p'), columns(int).T):
    ARRAYS['structured, big-endian'][_name] = _values
ARRAYS['milliseconds']['t'] = columns(int)[:, 0].astype('m8[us]').astype('m8[ns]')


@pytest.mark.parametrize('kind', ARRAYS)
def test_npy(tmp_path, monkeypatch, kind):
    np.save(tmp_path / 'a.npy', ARRAYS[kind])
    assert listed(read_events(tmp_path / 'a.npy')) == EVENTS
    monkeypatch.setattr(arrays, 'ROWS', 2)
    if 'x y' not in kind:
        assert listed(read_events(tmp_path / 'a.npy')) == EVENTS


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_npz_in_windows(tmp_path, monkeypatch, save):
    """As a whole an npz keeps its own unit; read by window it is in microseconds."""
    monkeypatch.setattr(arrays, 'ROWS', 7)
    fields = random_events()
    save(tmp_path / 'a.npz', **{**fields, 't': fields['t'] / 1e6}, label=np.array(3))
    window = read_events(tmp_path / 'a.npz', window=(2000, 5000))
    inside = (fields['t'] >= 2000) & (fields['t'] < 5000)
    for name, values in fields.items():
        assert np.array_equal(getattr(window, name), values[inside])
    assert read_events(tmp_path / 'a.npz').t[-1] == fields['t'][-1] / 1e6


def header(shape, dtype):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, dict(descr=dtype, fortran_order=False, shape=shape))
    return file.getvalue()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f'{name}.npy', data)
    return file.getvalue()


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


HUGE = header((1 << 50,), '<i8') + bytes(16)
NPY_FAULTS = {
    'takes 9007199254740992 bytes, the file has 16': HUGE,
    'byte 0: array is not an array': b'\x93NUMPY\x09\x00' + bytes(20),
    'holds pickled objects, which are not loaded': saved(np.array([None, 1]), allow_pickle=True),
    'an array (3,) float64: expected fields t, x, y, p, or (N, 4)': saved(np.zeros(3)),
    'an array (3, 5) int64': saved(np.zeros((3, 5), int)),
    'has no field t, x, p: expected t, x, y, p; it has a, y': saved(np.zeros(3, [('a', 'i4'), ('y', 'i4')])),
    'which column is time': saved(np.full((3, 4), 9)),
    'array of shape (): expected events row by row': saved(np.array(3)),
    'polarity 3 of event 0': saved(np.full(1, 3, [(n, 'i4') for n in 'txyp'])),
    't of 1125899906842624 rows takes': zipped(t=HUGE, x=HUGE, y=HUGE, p=HUGE),
    'must be one-dimensional and equally long': zipped(t=saved(np.zeros(3)), x=saved(np.zeros(2)), y=b'', p=b''),
}
NPY_FAULTS['must be one-dimensional and equally long'] = zipped(
    t=saved(np.zeros(3)), **{name: saved(np.zeros(2)) for name in 'xyp'}
)


@pytest.mark.parametrize('reason', NPY_FAULTS)
def test_npy_faults(tmp_path, reason):
    (tmp_path / 'a.bin').write_bytes(NPY_FAULTS[reason])
    with pytest.raises(InputError) as error:
        read_events(tmp_path / 'a.bin', window=(0, 9))
    assert reason in str(error.value) and '\n' not in str(error.value)


FOREIGN = {
    'a gzip archive: unpack it first': b'\x1f\x8b\x08\x00',
    'a ROS bag': b'#ROSBAG V2.0\n',
    'a picture': b'\x89PNG\r\n\x1a\n',
    'the file is empty': b'',
    'begins with 7f 45 4c 46': b'\x7fELF' + struct.pack('<8I', *range(9, 1, -1)),
}


@pytest.mark.parametrize('reason', FOREIGN)
def test_foreign_files(tmp_path, reason):
    (tmp_path / 'a.aedat').write_bytes(FOREIGN[reason])
    with pytest.raises(InputError, match=f'a.aedat, byte 0: {reason}'):
        open_events(tmp_path / 'a.aedat')


def test_raw_without_a_header(tmp_path):
    (tmp_path / 'a.raw').write_bytes(bytes.fromhex('0080 1060 6400 0528'))
    with pytest.raises(InputError, match='without the header that names its encoding'):
        open_events(tmp_path / 'a.raw')


def test_content_goes_before_the_name(tmp_path):
    np.save(tmp_path / 'a.npy', ARRAYS['structured'])
    (tmp_path / 'a.npy').rename(tmp_path / 'a.raw')
    assert listed(read_events(tmp_path / 'a.raw')) == EVENTS
    (tmp_path / 'b.aedat4').write_text(TEXTS['commas'])
    assert listed(read_events(tmp_path / 'b.aedat4')) == EVENTS


def test_a_unit_can_be_said(tmp_path):
    (tmp_path / 'a.txt').write_text('1 3 0 1\n2 1 2 0\n')
    reader = open_events(tmp_path / 'a.txt')
    reader.time_unit = 'ms'
    assert reader.read().t.tolist() == [1000, 2000]


def test_late_events_are_put_in_order_up_to_10_ms(tmp_path, monkeypatch):
    monkeypatch.setattr(text, 'LINES', 2)
    times = [0, 30_000, 20_001, 60_000, 50_000, 50_000, 70_000]
    rows = [f'{t} {i} 0 1\n' for i, t in enumerate(times)]
    (tmp_path / 'a.txt').write_text('t x y p\n' + ''.join(rows))
    events = read_events(tmp_path / 'a.txt')
    assert events.t.tolist() == sorted(times) and events.x.tolist() == [0, 2, 1, 4, 5, 3, 6]
    (tmp_path / 'a.txt').write_text('t x y p\n' + ''.join(rows) + '59999 0 0 1\n')
    with pytest.raises(InputError, match='time is not sorted: event 7 is at 59999 us after 70000 us'):
        read_events(tmp_path / 'a.txt')


def test_an_endless_recording_is_no_sample(tmp_path, monkeypatch):
    monkeypatch.setattr('qsdt_mm.datasets.events.readers.base.MOST_EVENTS', 2)
    (tmp_path / 'a.txt').write_text(TEXTS['t x y p'])
    with pytest.raises(InputError, match='over 2 events in one sample: cut the recording into windows'):
        read_events(tmp_path / 'a.txt')
