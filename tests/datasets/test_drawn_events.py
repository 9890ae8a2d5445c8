"""HAR-DVS as drawn pictures: which folders are samples, and what pictures become."""

import cv2
import numpy as np
import pytest

pytest.importorskip('mmpretrain')

from qsdt_mm.datasets.events.datasets import HARDVSPictures  # noqa: E402
from qsdt_mm.datasets.events.transforms import LoadDrawnEvents  # noqa: E402
from qsdt_mm.errors import InputError  # noqa: E402


def draw(folder, count, shade=None, size=(40, 50)):
    """Pictures 0.png, 1.png, ... of one shade each, or of random ones."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(0)
    for i in range(count):
        picture = numbers.integers(0, 256, size) if shade is None else np.full(size, shade + i)
        assert cv2.imwrite(str(folder / f'{i}.png'), picture.astype(np.uint8))
    return folder


@pytest.fixture
def root(tmp_path):
    for sample in ('action_001/dvSave-2', 'action_001/dvSave-10', 'action_300/dvSave-1'):
        draw(tmp_path / sample, 3)
    draw(tmp_path / 'plain', 2)
    (tmp_path / 'test_label.txt').write_text('action_001 7 0\n\naction_300 7 299\nplain 7 5\n')
    return tmp_path


def test_every_folder_of_a_line_is_a_sample(root):
    dataset = HARDVSPictures(
        root, 'test', num_frames=2, pipeline=[dict(type='LoadDrawnEvents', resize=32, crop_size=32)]
    )
    names = [sample['img_path'].removeprefix(f'{root}/') for sample in map(dataset.get_data_info, range(len(dataset)))]
    assert names == ['action_001/dvSave-2', 'action_001/dvSave-10', 'action_300/dvSave-1', 'plain']
    assert dataset.get_gt_labels().tolist() == [0, 0, 299, 5]
    assert dataset[0]['frames'].shape == (2, 2, 32, 32)


@pytest.mark.parametrize(
    'text, words',
    [
        ('action_001 0\n', 'line 1: expected "path _ label"'),
        ('action_001 0 x\n', 'expected "path _ label"'),
        ('action_001 0 300\n', 'label 300: expected 0 to 299'),
        ('action_002 0 1\n', 'action_002 does not exist'),
        ('', 'lists no sample'),
    ],
)
def test_bad_lists_are_one_line(root, text, words):
    (root / 'test_label.txt').write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        HARDVSPictures(root, 'test')
    assert '\n' not in str(caught.value)


def test_broken_pictures_are_named_or_skipped(root):
    (root / 'plain/1.png').write_bytes(b'no picture')
    for path in (root / 'action_300/dvSave-1').iterdir():
        path.unlink()
    load = LoadDrawnEvents(2, 32, 32)
    with pytest.raises(InputError, match='plain/1.png cannot be read as a picture'):
        load(dict(img_path=str(root / 'plain')))
    with pytest.raises(InputError, match='holds no picture'):
        load(dict(img_path=str(root / 'action_300/dvSave-1')))
    assert len(HARDVSPictures(root, 'test', on_error='skip')) == 2


@pytest.mark.parametrize(
    'shade, channels',
    [(0, (1, 0)), (30, (1, 0)), (31, (0, 0)), (76, (0, 0)), (77, (0, 1)), (198, (0, 1)), (199, (0, 0)), (255, (0, 0))],
)
def test_shades_become_channels(tmp_path, shade, channels):
    """[g < 0.12] and [0.3 < g <= 0.78] of g = shade / 255."""
    frames = LoadDrawnEvents(1, 32, 24)(dict(img_path=draw(tmp_path, 1, shade)))['frames']
    assert frames.dtype == np.float32 and frames.shape == (1, 2, 24, 24)
    assert [np.unique(channel).tolist() for channel in frames[0]] == [[float(c)] for c in channels]


def test_frames_after_the_last_picture_are_zero(tmp_path):
    frames = LoadDrawnEvents(4, 32, 32)(dict(img_path=draw(tmp_path, 2, 0)))['frames']
    assert frames.mean((1, 2, 3)).tolist() == [0.5, 0.5, 0.0, 0.0]


def test_pictures_come_in_order_from_the_first_or_from_anywhere(tmp_path):
    draw(tmp_path, 12, 25)  # 30 is the last shade of channel 0: pictures 0 to 5 of 12
    first = LoadDrawnEvents(7, 32, 32)(dict(img_path=tmp_path))['frames']
    assert first[:, 0].mean((1, 2)).tolist() == [1.0] * 6 + [0.0]  # 10.png is not after 1.png
    np.random.seed(0)
    load = LoadDrawnEvents(7, 32, 32, training=True)
    counts = {load(dict(img_path=tmp_path))['frames'][:, 0].mean((1, 2)).sum() for _ in range(40)}
    assert counts == {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}


def test_each_picture_is_mirrored_by_itself(tmp_path):
    picture = np.full((32, 32), 255, np.uint8)
    picture[:, :16] = 0
    for i in range(20):
        assert cv2.imwrite(str(tmp_path / f'{i}.png'), picture)
    np.random.seed(0)
    frames = LoadDrawnEvents(20, 32, 32, training=True)(dict(img_path=tmp_path))['frames']
    left = frames[:, 0, :, :8].mean((1, 2))
    assert set(left.tolist()) == {0.0, 1.0}
    plain = LoadDrawnEvents(20, 32, 32)(dict(img_path=tmp_path))['frames']
    assert (plain[:, 0, :, :8] == 1).all()


@pytest.mark.parametrize('options', [dict(num_frames=0), dict(crop_size=300), dict(resize=0)])
def test_bad_arguments_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LoadDrawnEvents(**options)
    with pytest.raises(ValueError, match='num_frames'):
        LoadDrawnEvents().transform(dict(img_path='.'))
