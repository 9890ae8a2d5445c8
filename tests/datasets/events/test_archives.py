"""Data sets as published: the archives' folders and formats, nothing converted."""

import struct

import numpy as np
import pytest

pytest.importorskip('mmpretrain')

from mmengine.registry import DATASETS  # noqa: E402

from qsdt_mm.datasets.events import datasets as events  # noqa: E402
from qsdt_mm.datasets.events.datasets import CIFAR10DVS, HARDVS, DVS128Gesture, NCaltech101  # noqa: E402
from qsdt_mm.datasets.events.readers.detection import open_events  # noqa: E402
from qsdt_mm.errors import InputError  # noqa: E402

PIPELINE = [dict(type='LoadEvents'), dict(type='EventsToFrames', num_frames=1)]


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def polarity_packet(rows):
    data = b''.join(struct.pack('<Ii', x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in rows)
    return struct.pack('<hhiiiiii', 1, 1, 8, 4, 0, len(rows), len(rows), len(rows)) + data


def forty_bits(*rows):
    return b''.join(bytes([x, y]) + (p << 23 | t).to_bytes(3, 'big') for t, x, y, p in rows)


def places(sample):
    """(polarity, row, column) of the events of a sample's only frame."""
    return [tuple(map(int, where)) for where in zip(*np.nonzero(sample['frames'][0]))]


@pytest.fixture
def gesture(tmp_path):
    root = tmp_path / 'DvsGesture'
    start = b'#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n'
    rows = [(1_000_000 * i, 10 * i, i, i % 2) for i in range(8)]
    for name in ('user01_fluorescent', 'user24_led'):
        put(root / f'{name}.aedat', start + b''.join(polarity_packet([row]) for row in rows))
        table = 'class,startTime_usec,endTime_usec\n2,1000000,3000000\n11,5000000,5000001\n'
        put(root / f'{name}_labels.csv', table.encode())
    put(root / 'trials_to_train.txt', b'user01_fluorescent.aedat\n')
    put(root / 'trials_to_test.txt', b'user24_led.aedat\n\n')
    return tmp_path


@pytest.mark.parametrize('inside', ['', 'DvsGesture'])
def test_dvs128_gesture(gesture, inside):
    data = DATASETS.build(dict(type='DVS128Gesture', data_root=str(gesture / inside), split='test', pipeline=PIPELINE))
    assert data.get_gt_labels().tolist() == [1, 10] and data.get_data_info(0)['window'] == (1_000_000, 3_000_000)
    assert places(data[0]) == [(0, 2, 20), (1, 1, 10)] and places(data[1]) == [(1, 5, 50)]
    assert len(DVS128Gesture(gesture, 'train', on_error='skip')) == 2


def test_labels_of_dvs128_gesture_are_checked(gesture):
    table = gesture / 'DvsGesture/user24_led_labels.csv'
    for text, line in (
        ('class,start,end\n12,1,2\n', 'class 12: expected 1 to 11'),
        ('class,start,end\n1,5,5\n', 'line 2: a part from 5 to 5 us'),
        ('class,start,end\n1,x,5\n', 'line 2: expected class,start,end in microseconds'),
        ('class,start,end\n', 'lists no part'),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=line):
            DVS128Gesture(gesture, 'test')
    table.unlink()
    with pytest.raises(InputError, match='user24_led_labels.csv does not exist'):
        DVS128Gesture(gesture, 'test')


def test_what_was_not_unpacked_is_said(tmp_path):
    put(tmp_path / 'DvsGesture.tar.gz', b'')
    with pytest.raises(InputError, match=r'does not exist; .* holds DvsGesture.tar.gz: unpack it there first'):
        DVS128Gesture(tmp_path)


@pytest.mark.parametrize('inside', ['', 'extract/'])
def test_cifar10_dvs(tmp_path, monkeypatch, inside):
    """Turned as the converted files are: column 127 - y, row 127 - x, and 1 - the last bit."""
    monkeypatch.setattr(events, 'print_log', lambda text, logger: None)
    event = struct.pack('>II', 20 << 8 | 100 << 1 | 0, 5)
    for name in CIFAR10DVS.METAINFO['classes']:
        for i in range(10):
            put(tmp_path / f'{inside}{name}/cifar10_{name}_{i}.aedat', b'#!AER-DAT2.0\r\n# created today\r\n' + event)
    data = CIFAR10DVS(tmp_path, 'test', pipeline=PIPELINE)
    assert len(data) == 10 and data.get_data_info(0)['img_path'].endswith('airplane/cifar10_airplane_9.aedat')
    assert places(data[0]) == [(1, 127 - 100, 127 - 20)]
    assert data[0]['frames'].shape == (1, 2, 128, 128)


def test_n_mnist(tmp_path):
    for split, number in (('Train', '00002'), ('Test', '00004')):
        for label in range(10):
            put(tmp_path / f'{split}/{label}/{number}.bin', forty_bits((9, 33, label, 1), (12, 0, 1, 0)))
    data = DATASETS.build(dict(type='NMNIST', data_root=str(tmp_path), split='test', pipeline=PIPELINE))
    assert data.get_gt_labels().tolist() == list(range(10)) and data[7]['frames'].shape == (1, 2, 34, 34)
    assert places(data[7]) == [(0, 1, 0), (1, 7, 33)]


@pytest.mark.parametrize('inside', ['', 'Caltech101'])
def test_n_caltech101(tmp_path, monkeypatch, inside):
    lines = []
    monkeypatch.setattr(events, 'print_log', lambda text, logger: lines.append(text))
    original = put(tmp_path / 'one.bin', forty_bits((9, 233, 172, 1)))
    for name in NCaltech101.METAINFO['classes']:
        for i in (1, 2, 10):
            path = tmp_path / f'Caltech101/{name}/image_{i:04}.bin'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(original)
    data = NCaltech101(tmp_path / inside, 'test', train_share=0.7, pipeline=PIPELINE)
    assert len(data) == 101 and places(data[0]) == [(1, 172, 233)] and data[0]['frames'].shape == (1, 2, 180, 240)
    assert 'NCaltech101 test: the last 30 % of each class by number, 101 files' in lines[0]


def test_hardvs_of_aedat4(tmp_path):
    put(tmp_path / 'action_001/dvSave-2021_10_15_19_18_02.aedat4', b'#!AER-DAT4.0\r\n')
    put(tmp_path / 'val_label.txt', b'action_001/dvSave-2021_10_15_19_18_02 0 0\n')
    data = HARDVS(tmp_path, 'val')
    assert data.get_data_info(0)['img_path'].endswith('02.aedat4')


def test_a_list_names_files_of_any_format(tmp_path):
    put(tmp_path / 'a.txt', b'0 3 1 1\n9 2 0 0\n')
    put(tmp_path / 'b.bin', forty_bits((9, 5, 6, 1)))
    (tmp_path / 'train.lst').write_text('a.txt 0\nb 1\n')
    data = events.EventFiles(tmp_path, 'train.lst', classes=('x', 'y'), pipeline=PIPELINE, sensor_size=(8, 8))
    assert [places(sample) for sample in data] == [[(0, 0, 2), (1, 1, 3)], [(1, 6, 5)]]


def test_frames_of_a_size_that_only_a_header_says_are_not_made(tmp_path):
    put(tmp_path / 'a.txt', b'65535 65535\n0 3 1 1\n9 2 0 0\n')
    assert open_events(tmp_path / 'a.txt').sensor_size == (65535, 65535)
    (tmp_path / 'train.lst').write_text('a.txt 0\n')
    data = events.EventFiles(tmp_path, 'train.lst', classes=('x',), pipeline=PIPELINE)
    with pytest.raises(InputError, match='a.txt: 1 frames of 65535 x 65535 pixels are too many: give size'):
        data[0]
