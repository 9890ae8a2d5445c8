"""Folders of recordings made into data sets."""

import json
import struct

import numpy as np
import pytest
import toy_runs as toy

pytest.importorskip('mmpretrain')

from qsdt_mm.datasets.events.datasets import EventFiles  # noqa: E402
from qsdt_mm.datasets.events.files import read_events  # noqa: E402

TOOL = 'dataset_converters/events_to_npz'
EVT3 = b'% evt 3.0\n% geometry 32x24\n% end\n'


def run(*words):
    return toy.tool(TOOL).main([str(word) for word in words])


def evt3(*events):
    """High and low time, row, column of each event."""
    words = [w for t, x, y, p in events for w in (0x8000 | t >> 12, 0x6000 | t & 0xFFF, y, 0x2000 | p << 11 | x)]
    return EVT3 + struct.pack(f'<{len(words)}H', *words)


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def text(start, step, count, x=3):
    return ''.join(f'{start + i * step} {x} {i % 5} {i % 2}\n' for i in range(count))


@pytest.fixture
def source(tmp_path):
    """Two classes in three formats; 10 events, one every 10 ms, from anywhere in time."""
    root = tmp_path / 'recordings'
    for i in range(5):
        times = [4_000_000 * (i % 2) + 10_000 * k for k in range(10)]
        put(root / f'left/{i}.raw', evt3(*((t, i, 2, 1) for t in times)))
        put(
            root / f'right/person 1/{i}.bin',
            b''.join(bytes([9, 1]) + (5 + 10_000 * k).to_bytes(3, 'big') for k in range(10)),
        )
    put(root / 'left/notes.txt', 'Recorded on a rainy day.')
    return root


def test_windows_lists_and_what_a_config_needs(source, tmp_path, capsys):
    out = tmp_path / 'data'
    assert run(source, out, '--window', '30ms', '--stride', '20ms', '--val', '0.2', '--min-events', 3) == 0
    said = capsys.readouterr()
    assert "in the config: sensor_size = (24, 32), classes = ('left', 'right')" in said.out
    assert '10 of 10 recordings: 5 40-bit events (N-MNIST, N-Caltech101), 5 EVT 3.0' in said.out
    meta = json.loads((out / 'meta.json').read_text())
    assert meta['classes'] == ['left', 'right'] and meta['settings']['window_us'] == 30_000
    lines = {split: (out / f'{split}.txt').read_text().splitlines() for split in ('train', 'val')}
    assert (len(lines['train']), len(lines['val'])) == (2 * 4 * 4, 2 * 1 * 4) == tuple(meta['samples'].values())
    recordings = {split: {line.rpartition('_')[0] for line in those} for split, those in lines.items()}
    assert not recordings['train'] & recordings['val'] and len(recordings['val']) == 2
    data = EventFiles(out, 'train.txt', classes=meta['classes'], on_error='skip', sensor_size=meta['sensor_size'])
    assert data.get_gt_labels().tolist() == [0] * 16 + [1] * 16
    first = [line.rpartition(' ')[0] for line in lines['train'] if line.startswith('right')][:4]
    assert [name[-9:] for name in first] == [f'{i:05}.npz' for i in range(4)]
    assert [read_events(out / name).t.tolist() for name in first] == [
        [5 + 20_000 * i + 10_000 * k for k in range(3)] for i in range(4)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['data', 'recordings']


def test_whole_recordings_keep_every_event(source, tmp_path, capsys):
    assert run(source, tmp_path / 'data') == 0
    events = read_events(tmp_path / 'data/left/3.npz')
    assert events.t.tolist() == [4_000_000 + 10_000 * k for k in range(10)] and set(events.x) == {3}
    assert not (tmp_path / 'data/val.txt').exists()
    assert (tmp_path / 'data/train.txt').read_text().splitlines()[-1] == 'right/person 1/4.npz 1'


def test_folders_of_parts_and_of_none(tmp_path, capsys):
    for split in ('Train', 'Test'):
        for label in 'ab':
            put(tmp_path / f'in/{split}/{label}/1.txt', text(0, 10, 9))
    assert run(tmp_path / 'in', tmp_path / 'out') == 0
    assert (tmp_path / 'out/test.txt').read_text().splitlines() == ['Test/a/1.npz 0', 'Test/b/1.npz 1']
    assert run(tmp_path / 'in', tmp_path / 'other', '--val', 0.5) == 2
    assert 'is divided into test, train: --val divides it again' in capsys.readouterr().err
    assert run(tmp_path / 'in/Train/a', tmp_path / 'flat') == 0
    assert 'no list: recordings in folders' in capsys.readouterr().out
    assert run(tmp_path / 'in/Train/a/1.txt', tmp_path / 'one') == 0 and (tmp_path / 'one/1.npz').is_file()


def test_tables_of_labels(tmp_path):
    """As in DVS128 Gesture: parts of a recording, each with its class."""
    put(tmp_path / 'in/a.txt', text(1000, 100, 50))
    put(tmp_path / 'in/a_labels.csv', 'class,startTime_usec,endTime_usec\n7,1000,2000\n9,3000,3300\n7,4000,9000\n')
    assert run(tmp_path / 'in', tmp_path / 'whole', '--pattern', '*.txt') == 0
    lines = (tmp_path / 'whole/train.txt').read_text().splitlines()
    assert lines == ['a_00.npz 0', 'a_01.npz 1', 'a_02.npz 0']
    assert read_events(tmp_path / 'whole/a_01.npz').t.tolist() == [3000, 3100, 3200]
    assert run(tmp_path / 'in', tmp_path / 'cut', '--pattern', '*.txt', '--window', '500us') == 0
    lines = (tmp_path / 'cut/train.txt').read_text().splitlines()
    assert lines[:2] == ['a_00_00000.npz 0', 'a_00_00001.npz 0'] and 'a_01' not in ''.join(lines)
    assert read_events(tmp_path / 'cut/a_00_00001.npz').t.tolist() == [1500, 1600, 1700, 1800, 1900]
    assert json.loads((tmp_path / 'cut/meta.json').read_text())['classes'] == ['7', '9']


def test_malformed_recordings(source, tmp_path, capsys):
    bad = put(source / 'left/9.raw', evt3((1, 1, 1, 1)) + b'\x00')
    assert run(source, tmp_path / 'data', '--window', '30ms') == 2
    lines = toy.our_lines(capsys.readouterr().err, 'events_to_npz.py')
    assert len(lines) == 1 and f'{bad}, byte {len(EVT3) + 8}: the file ends within an event' in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ['recordings']
    assert run(source, tmp_path / 'data', '--window', '30ms', '--on-error', 'skip') == 0
    assert f'left out 1 malformed recordings: {bad}' in capsys.readouterr().out
    assert run(source, tmp_path / 'data', '--keep-cut', '--overwrite') == 0
    assert read_events(tmp_path / 'data/left/9.npz').t.tolist() == [1]


FAULTS = [
    (['{source}/none', '{out}'], 'none does not exist'),
    (['{source}/left', '{out}', '--pattern', '*.h5'], 'holds no *.h5'),
    (['{source}', '{source}'], 'which would be replaced'),
    (['{source}/left', '{source}'], 'which would be replaced'),
    (['{source}', '{out}', '--min-events', '99'], 'no sample of 99 events or more'),
    (['{source}', '{out}', '--sensor', '4x4'], 'x=4 of event 0 is outside the sensor'),
]


@pytest.mark.parametrize(('words', 'reason'), FAULTS)
def test_bad_input_is_one_line_and_leaves_nothing(source, tmp_path, capsys, words, reason):
    assert run(*(word.format(source=source, out=tmp_path / 'out') for word in words)) == 2
    lines = toy.our_lines(capsys.readouterr().err, 'events_to_npz.py')
    assert len(lines) == 1 and reason in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ['recordings']


def test_what_is_not_ours_is_not_replaced(source, tmp_path, capsys):
    put(tmp_path / 'out/thesis.tex', 'years of work')
    for words in ([], ['--overwrite']):
        assert run(source, tmp_path / 'out', *words) == 2
    assert 'was not made by events_to_npz.py: not replaced' in capsys.readouterr().err
    put(source / 'left/0.npy', b'')
    assert run(source, tmp_path / 'other') == 2
    assert 'would both become 0.npz: choose with --pattern' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'hint'),
    [
        (['--window', '50'], "--window: '50' is no duration"),
        (['--stride', '50ms'], '--stride needs --window'),
        (['--val', '1'], '--val must be between 0 and 1'),
        (['--min-events', '0'], '--min-events must be at least 1'),
        (['--sensor', '10'], '--sensor must be HEIGHTxWIDTH'),
    ],
)
def test_bad_options(capsys, words, hint):
    with pytest.raises(SystemExit) as caught:
        run('in', 'out', *words)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count('\n') == 1 and hint in error


def test_units_and_sensor(tmp_path):
    put(tmp_path / 'in/a/1.txt', '1 3 1 1\n2 3 1 0\n4 3 2 0\n')
    assert run(tmp_path / 'in', tmp_path / 'out', '--time-unit', 'ms', '--sensor', '10x20') == 0
    assert read_events(tmp_path / 'out/a/1.npz').t.tolist() == [1000, 2000, 4000]
    assert json.loads((tmp_path / 'out/meta.json').read_text())['sensor_size'] == [10, 20]
    assert np.load(tmp_path / 'out/a/1.npz')['x'].dtype == np.uint16
