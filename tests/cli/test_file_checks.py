"""Images and label maps are looked for and into before a run."""

import cv2
import numpy as np
import pytest
from label_sets import STEPS, label_map, make_set, pictures, segments, write
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.registry import TRANSFORMS
from PIL import Image

from qsdt_mm.cli import file_checks
from qsdt_mm.cli.file_checks import check_files
from qsdt_mm.errors import InputError

pytest.importorskip('mmpretrain')
pytest.importorskip('mmseg')


def folders(root, number=3, size=(60, 80), ending='jpg'):
    numbers = np.random.default_rng(0)
    for name in ('cat', 'dog'):
        for i in range(number):
            write(root / f'{name}/{i}.{ending}', numbers.integers(0, 256, (*size, 3), dtype=np.uint8))
    return root


def refused(dataset, *words, what='validation'):
    with pytest.raises(InputError) as caught:
        check_files(dataset, what)
    said = str(caught.value)
    assert '\n' not in said and all(str(word) in said for word in words), said


def cut(path, share=0.6):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def test_whole_sets_pass(tmp_path):
    assert check_files(pictures(folders(tmp_path / 'a')), 'training') == []
    assert check_files(segments(make_set(tmp_path / 'b', [label_map(0, 1)] * 2)), 'training') == []


@pytest.mark.parametrize('ending', ['jpg', 'png', 'bmp'])
def test_cut_short(tmp_path, ending):
    """OpenCV fills the rest of a JPEG file with grey, and says so to nobody."""
    path = folders(tmp_path, ending=ending) / f'dog/1.{ending}'
    cut(path)
    if ending == 'jpg':
        assert cv2.imread(str(path)).shape == (60, 80, 3)
    refused(pictures(tmp_path), path, 'cut short')
    for other in tmp_path.rglob(f'*.{ending}'):
        other == path or cut(other)
    refused(pictures(tmp_path), '6 of 6 images of the validation data are refused')


def test_bytes_after_the_end_are_harmless(tmp_path):
    path = folders(tmp_path) / 'dog/1.jpg'
    path.write_bytes(path.read_bytes() + bytes(10000))
    assert check_files(pictures(tmp_path), 'training') == []


@pytest.mark.parametrize('held', [b'', b'no image', bytes(300)])
def test_no_images(tmp_path, held):
    path = folders(tmp_path) / 'cat/2.jpg'
    path.write_bytes(held)
    refused(pictures(tmp_path), path)


def test_a_bit_that_only_decoding_shows(tmp_path):
    path = folders(tmp_path, ending='png') / 'cat/2.png'
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    refused(pictures(tmp_path), path, 'damaged')


def test_listed_images_that_are_not_there(tmp_path):
    (folders(tmp_path) / 'list.txt').write_text('cat/0.jpg 0\ncat/9.jpg 0\ndog/0.jpg 1\nelsewhere/0.jpg 1\n')
    data = pictures(tmp_path, ann_file='list.txt')
    refused(data, '2 of the 4 images of the validation data are not there', tmp_path / 'cat/9.jpg')
    refused(RepeatDataset(data, 3), '2 of the 4')
    refused(ConcatDataset([pictures(tmp_path), data], ignore_keys='classes'), '2 of the 4')


def test_label_maps_that_are_not_there(tmp_path):
    make_set(tmp_path, [label_map(0, 1)] * 3)
    (tmp_path / 'labels/train/1.png').unlink()
    some, other = segments(tmp_path), segments(tmp_path, seg_map_suffix='_L.png')
    for part in ('training', 'validation', 'test'):
        refused(some, '1 of the 3 label maps', tmp_path / 'labels/train/1.png', what=part)
        refused(other, '3 of the 3 label maps', "seg_map_suffix='_L.png'", what=part)
        with pytest.raises(InputError) as caught:
            check_files(other, part)
        assert ('seg_map_path=None' in str(caught.value)) == (part == 'test')


def test_label_maps_are_opened(tmp_path):
    make_set(tmp_path, [label_map(0, 1), label_map(0, 300, dtype=np.uint16), label_map(0, 400, dtype=np.uint16)])
    refused(segments(tmp_path), 'in 16 bits', '2 of 3 label maps of the validation data are refused')


def test_label_maps_that_are_cut_short(tmp_path):
    path = make_set(tmp_path, [label_map(*range(8), size=(64, 64))] * 3) / 'labels/train/2.png'
    cut(path, 0.7)
    refused(segments(tmp_path), path, 'cut short')


def test_no_label_maps_where_they_are_needed(tmp_path):
    data = segments(make_set(tmp_path, [label_map(0, 1)]), data_prefix=dict(img_path='images/train'))
    refused(data, 'the validation data have no label maps: data_prefix.seg_map_path')


def test_label_maps_of_jpg(tmp_path):
    refused(segments(make_set(tmp_path, [label_map(0, 1)], suffix='.jpg'), seg_map_suffix='.jpg'), '0.jpg is a JPEG')


def test_how_much_was_looked_at_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(file_checks, 'OPENED', 4)
    (said,) = check_files(pictures(folders(tmp_path)), 'validation')
    assert said == 'validation: 6 of 6 images are there, 4 of them were opened'
    monkeypatch.setattr(file_checks, 'LISTED', 5)
    (said,) = check_files(pictures(tmp_path), 'validation')
    assert said.startswith('validation: 5 of 6 images are there')


def test_other_storages_and_loaders_are_left_alone(tmp_path):
    cut(folders(tmp_path) / 'dog/1.jpg')
    for steps in ([dict(type='LoadImageFromFile', backend_args=dict(backend='http'))], []):
        assert check_files(pictures(tmp_path, steps=steps), 'training') == []


@pytest.mark.parametrize(
    ('mode', 'ending'), [('CMYK', 'jpg'), ('CMYK', 'tif'), ('L', 'jpg'), ('P', 'png'), ('1', 'png'), ('RGBA', 'png')]
)
def test_kinds_of_pictures_are_read_right(tmp_path, mode, ending):
    """And nothing is said about them."""
    colours = np.zeros((32, 32, 3), np.uint8)
    colours[:16], colours[16:] = (200, 40, 10), (20, 90, 220)
    picture = Image.fromarray(colours)
    picture = picture.quantize(4) if mode == 'P' else picture.convert(mode)
    for name in ('cat', 'dog'):
        (tmp_path / name).mkdir()
        picture.save(tmp_path / f'{name}/0.{ending}')
    data = pictures(tmp_path)
    assert check_files(data, 'training') == []
    found = data[0]['inputs'].numpy().transpose(1, 2, 0)[..., ::-1]
    assert np.abs(found.astype(int) - np.array(picture.convert('RGB'))).max() <= 3


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P'])
def test_pixels_that_are_clear_are_said(tmp_path, mode):
    picture = Image.fromarray(np.full((8, 8, 4), (200, 40, 10, 0), np.uint8))
    for name in ('cat', 'dog'):
        (tmp_path / name).mkdir()
        if mode == 'P':
            picture.convert('RGB').quantize(2).save(tmp_path / f'{name}/0.png', transparency=0)
        else:
            picture.convert(mode).save(tmp_path / f'{name}/0.png')
    (said,) = check_files(pictures(tmp_path), 'training')
    assert said.startswith('warning: ') and 'transparent' in said and '2 images of the training data' in said


def deep(root, highest, ending='png', channels=1):
    values = np.linspace(0, highest, 64 * channels).round().astype(np.uint16).reshape(8, 8, channels)
    for name in ('cat', 'dog'):
        write(root / f'{name}/0.{ending}', values)
    return root


@pytest.mark.parametrize(
    ('highest', 'bits', 'left', 'ending', 'channels'),
    [(1023, 10, 4, 'png', 1), (4095, 12, 16, 'png', 3), (3000, 12, 12, 'tif', 1), (15000, 14, 59, 'tif', 3)],
)
def test_few_bits_in_files_of_16(tmp_path, highest, bits, left, ending, channels):
    data = pictures(deep(tmp_path, highest, ending, channels))
    found = data[0]['inputs'].unique()
    assert len(found) <= left  # what a network would see
    refused(data, f'{bits} bits in files of 16', f'{left} levels', f"dict(type='LoadDeepImage', bits={bits})")
    cured = pictures(tmp_path, steps=[dict(type='LoadDeepImage', bits=bits)])
    assert check_files(cured, 'training') == []
    image = cured[0]['inputs']
    assert image.shape == (3, 8, 8) and len(image.unique()) == 64 * channels
    assert float(image.max()) == pytest.approx(255 * highest / (2**bits - 1))


def test_whole_16_bits_pass(tmp_path):
    data = pictures(deep(tmp_path, 65535))
    assert check_files(data, 'training') == []
    assert int(data[0]['inputs'].max()) == 255


def test_more_bits_than_were_said(tmp_path):
    step = TRANSFORMS.build(dict(type='LoadDeepImage', bits=10))
    with pytest.raises(InputError, match=r'0\.png has the value 4095: bits=10 go up to 1023'):
        step(dict(img_path=str(deep(tmp_path, 4095) / 'cat/0.png')))
    write(tmp_path / 'a.png', np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(InputError, match='4 channels'):
        step(dict(img_path=str(tmp_path / 'a.png')))


def test_steps_in_wrappers_are_found(tmp_path):
    """A loader inside of another step."""
    cut(folders(tmp_path) / 'dog/1.jpg')
    steps = [dict(type='RandomApply', transforms=list(STEPS[:1]), prob=1.0)]
    refused(pictures(tmp_path, steps=steps), 'cut short')
