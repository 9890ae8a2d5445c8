"""Data sets of event cameras in their users' folders."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from event_samples import write

pytest.importorskip('mmpretrain')

from mmengine.registry import DATASETS  # noqa: E402

from qsdt_mm.datasets.events import datasets as events  # noqa: E402
from qsdt_mm.datasets.events.datasets import CIFAR10DVS, HARDVS, DVS128Gesture, EventFiles, HARDVSPictures  # noqa: E402
from qsdt_mm.datasets.events.files import read_events  # noqa: E402
from qsdt_mm.errors import InputError  # noqa: E402

PIPELINE = [
    dict(type='LoadEvents'),
    dict(type='EventsToFrames', num_frames=2),
    dict(type='mmpretrain.PackInputs', input_key='frames'),
]


def paths(dataset):
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


def labels(dataset):
    return dataset.get_gt_labels().tolist()


@pytest.fixture
def log(monkeypatch):
    """What goes to the run's log."""
    lines = []
    monkeypatch.setattr(events, 'print_log', lambda text, logger: lines.append(text))
    return lines


@pytest.fixture(scope='module')
def gesture(tmp_path_factory):
    root = tmp_path_factory.mktemp('gesture')
    for split, users in (('train', (1, 2)), ('test', (24,))):
        for label in range(11):
            for user in users:
                write(root / f'events_np/{split}/{label}/user{user:02}_led_0.npz')
    return root


def test_dvs128_gesture(gesture):
    train, test = (DVS128Gesture(gesture, split, pipeline=PIPELINE, num_frames=4) for split in ('train', 'test'))
    assert (len(train), len(test)) == (22, 11) and labels(test) == list(range(11))
    assert train[0]['inputs'].shape == (2, 2, 128, 128) and train[0]['inputs'].sum() == 200
    assert not train.test_mode and test.test_mode
    assert train.get_data_info(0)['num_frames'] == 4 and train.metainfo['classes'][1] == 'right hand wave'
    assert isinstance(DATASETS.build(dict(type='DVS128Gesture', data_root=str(gesture))), DVS128Gesture)


def test_dvs128_gesture_from_ready_frames(gesture, tmp_path):
    for label in range(11):
        (tmp_path / f'frames_number_4_split_by_number/test/{label}').mkdir(parents=True)
        path = tmp_path / f'frames_number_4_split_by_number/test/{label}/user24_led_0.npz'
        np.savez(path, frames=np.ones((4, 2, 128, 128), np.float32))
    pipeline = [dict(type='LoadEventFrames'), dict(type='mmpretrain.PackInputs', input_key='frames')]
    options = dict(source='frames_number_4_split_by_number', pipeline=pipeline)
    data = DVS128Gesture(tmp_path, 'test', num_frames=4, on_error='skip', **options)
    assert len(data) == 11 and data[0]['inputs'].shape == (4, 2, 128, 128)
    with pytest.raises(InputError, match='holds 4 frames: expected num_frames=8'):
        DVS128Gesture(tmp_path, 'test', num_frames=8, **options)[0]


def test_a_missing_folder_is_named(gesture, tmp_path):
    with pytest.raises(InputError, match=f'data_root {tmp_path}/none does not exist'):
        DVS128Gesture(tmp_path / 'none')
    shutil.copytree(gesture / 'events_np/test/0', tmp_path / 'events_np/test/0')
    with pytest.raises(InputError, match=f'folder {tmp_path}/events_np/test/1 does not exist'):
        DVS128Gesture(tmp_path, 'test')


@pytest.fixture(scope='module')
def cifar(tmp_path_factory):
    root = tmp_path_factory.mktemp('cifar')
    original = write(root / 'original.npz')
    for name in CIFAR10DVS.METAINFO['classes']:
        (root / f'events_np/{name}').mkdir(parents=True)
        for i in range(20):
            (root / f'events_np/{name}/cifar10_{name}_{i}.npz').symlink_to(original)
    return root


def test_cifar10_dvs_is_split_by_number_and_says_so(cifar, log):
    train, test = (CIFAR10DVS(cifar, split) for split in ('train', 'test'))
    assert (len(train), len(test)) == (180, 20)
    assert np.bincount(labels(train)).tolist() == [18] * 10
    # Numbers are numbers: 2 comes before 10.
    assert [path.rpartition('_')[2] for path in paths(train)[:18]] == [f'{i}.npz' for i in range(18)]
    assert [path.rpartition('_')[2] for path in paths(test)[:2]] == ['18.npz', '19.npz']
    assert not set(paths(train)) & set(paths(test))
    text = ' '.join(log)
    assert 'CIFAR10DVS train: the first 90 % of each class by number, 180 files' in text
    assert 'CIFAR10DVS test: the last 10 % of each class by number, 20 files' in text


def test_cifar10_dvs_with_another_share(cifar):
    assert len(CIFAR10DVS(cifar, train_share=0.5)) == 100
    with pytest.raises(ValueError, match='train_share=1'):
        CIFAR10DVS(cifar, train_share=1)


@pytest.fixture
def hardvs(tmp_path):
    for action, name in (('action_001', 'dvSave-a'), ('action_300', 'dvSave-b'), ('action_002', 'dvSave-c')):
        write(tmp_path / action / f'{name}.npz')
    (tmp_path / 'train_label.txt').write_text('action_001/dvSave-a 0\naction_300/dvSave-b 299\n\n')
    (tmp_path / 'test_label.txt').write_text('action_002/dvSave-c.npz 1\n')
    return tmp_path


def test_hardvs(hardvs):
    train, test = (HARDVS(hardvs, split, pipeline=PIPELINE) for split in ('train', 'test'))
    assert labels(train) == [0, 299] and labels(test) == [1]
    assert train[1]['inputs'].shape == (2, 2, 260, 346)
    assert len(train.metainfo['classes']) == 300
    with pytest.raises(InputError, match='val_label.txt: No such file'):
        HARDVS(hardvs, 'val')
    (hardvs / 'val_label.txt').write_text('action_001/dvSave-a 0\naction_301/dvSave-b 300\n')
    with pytest.raises(InputError, match='val_label.txt, line 2: .* is not in a folder action_001 to action_300'):
        HARDVS(hardvs, 'val')


def test_names_with_spaces_in_the_lists_of_hardvs(tmp_path):
    folder = tmp_path / 'action_002'
    write(folder / 'rec 3.npz')
    (folder / 'pictures of a').mkdir()
    cv2.imwrite(str(folder / 'pictures of a/1.png'), np.zeros((4, 4), np.uint8))
    lines = (
        'action_002/my rec.npz 1\naction_002/my rec _ 1\naction_002/my rec\naction_002/rec 3 _\naction_002/rec 3 1\n'
    )
    (tmp_path / 'val_label.txt').write_text(lines)
    found = [Path(path).name for path in paths(HARDVS(tmp_path, 'val'))]
    assert found == [*['my rec.npz'] * 3, 'rec 3.npz', 'rec 3.npz']
    (tmp_path / 'test_label.txt').write_text('action_002/pictures of a _ 1\n')
    assert paths(HARDVSPictures(tmp_path, 'test')) == [str(folder / 'pictures of a')]


def test_what_is_no_folder_is_said_so(tmp_path):
    (tmp_path / 'file').touch()
    for root, what in (
        ('file', 'is a file, not a folder'),
        ('file/x', f'does not exist: {tmp_path / "file"} is a file'),
    ):
        with pytest.raises(InputError, match=re.escape(f'data_root {tmp_path / root} {what}')):
            DVS128Gesture(tmp_path / root)
    (tmp_path / 'events_np/train').mkdir(parents=True)
    (tmp_path / 'events_np/train/0').touch()
    with pytest.raises(InputError, match='folder .*/0 is a file, not a folder'):
        DVS128Gesture(tmp_path)
    (tmp_path / 'a.npz').mkdir()
    with pytest.raises(InputError, match=r'a\.npz is a folder, not a file'):
        read_events(tmp_path / 'a.npz')


def test_hardvs_as_spikingjelly_prepares_it(tmp_path):
    for i in range(1, 301):
        (tmp_path / f'events_np/val/action_{i:03}').mkdir(parents=True)
        (tmp_path / f'events_np/val/action_{i:03}/dvSave-a.npz').touch()
    assert labels(HARDVS(tmp_path, 'val', source='events_np')) == list(range(300))


class TestEventFiles:
    def make(self, root, lines, **options):
        (root / 'list.txt').write_text(lines)
        return EventFiles(root, 'list.txt', classes=('a', 'b'), sensor_size=(20, 30), **options)

    def test_lines(self, tmp_path):
        write(tmp_path / 'x/1.npz')
        data = self.make(tmp_path, 'x/1.npz 1\nx/1 0\n', pipeline=PIPELINE)
        assert labels(data) == [1, 0] and data.metainfo['classes'] == ('a', 'b')
        assert data[0]['inputs'].shape == (2, 2, 20, 30)

    def test_names_with_spaces(self, tmp_path):
        for name in ('my recordings/the first one.npz', 'b 2.npz'):
            write(tmp_path / name)
        lines = '\ufeffmy recordings/the first one.npz 1\nmy recordings/the first one\t0\n"b 2" 1\r\n  b 2   0  \n'
        data = self.make(tmp_path, lines, pipeline=PIPELINE)
        assert labels(data) == [1, 0, 1, 0]
        assert [path.removeprefix(f'{tmp_path}/') for path in paths(data)] == [
            *['my recordings/the first one.npz'] * 2,
            *['b 2.npz'] * 2,
        ]
        assert len([data[i] for i in range(4)]) == 4

    @pytest.mark.parametrize(
        ('lines', 'fault'),
        [
            ('a 0\nb 2\n', 'line 2: label 2: expected 0 to 1'),
            ('a\n', 'line 1: expected "path label", got \'a\''),
            ('a b\n', 'line 1: expected "path label", got \'a b\''),
            ('\n', 'list.txt lists no sample'),
        ],
    )
    def test_faults(self, tmp_path, lines, fault):
        with pytest.raises(InputError, match=fault):
            self.make(tmp_path, lines)

    def test_malformed_files(self, tmp_path, log):
        """Raised where they are met, or left out, counted and named."""
        for name in 'abc':
            write(tmp_path / f'{name}.npz')
        write(tmp_path / 'b.npz', y=None)
        (tmp_path / 'd.npz').write_text('')
        lines = 'a 0\nb 1\nc 1\nd 0\ne 0\n'
        data = self.make(tmp_path, lines, pipeline=PIPELINE)
        assert len(data) == 5 and data[2]['inputs'].shape == (2, 2, 20, 30)  # nothing is read before it is asked for
        with pytest.raises(InputError, match='b.npz has no field y'):
            data[1]
        data = self.make(tmp_path, lines, pipeline=PIPELINE, on_error='skip')
        assert [path[-5] for path in paths(data)] == ['a', 'c'] and labels(data) == [0, 1]
        text = ' '.join(log)
        assert 'EventFiles train: skipped 3 of 5 files: ' in text
        for fault in ('b.npz has no field y', 'd.npz is not an npz file', 'e.npz does not exist'):
            assert fault in text
        with pytest.raises(InputError, match='none of 1 files can be read'):
            self.make(tmp_path, 'b 1\n', on_error='skip')

    @pytest.mark.parametrize(
        'options', [dict(on_error='ignore'), dict(split='trian'), dict(num_frames=0)], ids=lambda o: next(iter(o))
    )
    def test_bad_arguments(self, tmp_path, options):
        ((name, value),) = options.items()
        with pytest.raises(ValueError, match=f'{name}={value!r} is not allowed'):
            self.make(tmp_path, 'a 0\n', **options)
