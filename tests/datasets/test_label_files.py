"""Label maps that a loader would read as something else."""

import cv2
import numpy as np
import pytest
from label_sets import STEPS, label_map, make_set, network, segments
from mmengine.registry import TRANSFORMS
from PIL import Image

from qsdt_mm.datasets.label_files import check_label_file, loads_labels
from qsdt_mm.datasets.labels import check_samples
from qsdt_mm.errors import InputError

pytest.importorskip('mmseg')

DEEP = label_map(0, 1, 300, dtype=np.uint16)


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        check_label_file(path)
    assert str(path) in str(caught.value) and all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_maps_of_bytes_pass_in_any_depth(tmp_path, dtype):
    cv2.imwrite(str(tmp_path / 'a.png'), label_map(0, 1, 255, dtype=dtype))
    check_label_file(tmp_path / 'a.png')


def test_palettes_and_bits_pass(tmp_path):
    labels = label_map(0, 1, 2)
    image = Image.fromarray(labels).convert('P')
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / 'p.png')
    Image.fromarray(labels > 0).save(tmp_path / 'bits.png')
    check_label_file(tmp_path / 'p.png')
    check_label_file(tmp_path / 'bits.png')


@pytest.mark.parametrize('value', [256, 300, 65535])
@pytest.mark.parametrize('ending', ['png', 'tif'])
def test_values_beyond_a_byte(tmp_path, value, ending):
    cv2.imwrite(str(tmp_path / f'a.{ending}'), label_map(0, 1, value, dtype=np.uint16))
    refused(tmp_path / f'a.{ending}', f'label {value} in 16 bits', f'read as {value % 256}', 'LoadLabelMap')


def test_fractions(tmp_path):
    Image.fromarray(label_map(0, 0.5, dtype=np.float32)).save(tmp_path / 'a.tif')
    refused(tmp_path / 'a.tif', 'fractions', '0.5')


@pytest.mark.parametrize('channels', [3, 4])
def test_colours(tmp_path, channels):
    colours = np.zeros((8, 10, channels), np.uint8)
    colours[:4] = (10, 20, 30, 255)[:channels]
    cv2.imwrite(str(tmp_path / 'a.png'), colours)
    refused(tmp_path / 'a.png', f'colours ({channels} channels)', 'tools/dataset_converters/colours_to_labels.py')
    colours[..., :3] = label_map(0, 1)[..., None]
    cv2.imwrite(str(tmp_path / 'a.png'), colours)
    refused(tmp_path / 'a.png', 'colours', 'first three of them equal', '--grey')


@pytest.mark.parametrize('name', ['a.jpg', 'called.png'])
def test_jpeg_whatever_its_name(tmp_path, name):
    Image.fromarray(label_map(0, 1)).save(tmp_path / name, format='JPEG')
    refused(tmp_path / name, 'JPEG')


@pytest.mark.parametrize('held', [b'', b'not an image', None])
def test_unreadable(tmp_path, held):
    if held is not None:
        (tmp_path / 'a.png').write_bytes(held)
    refused(tmp_path / 'a.png')


def test_samples_name_the_label_map_in_the_middle_of_a_run(tmp_path):
    """As a worker meets it: the first maps are whole."""
    data = segments(make_set(tmp_path, [label_map(0, 1), DEEP, label_map(0, 1), label_map(0, 7)]))
    check_samples(data, network(), 'training')
    path = tmp_path / 'labels/train'
    assert data[0]['data_samples'].gt_sem_seg.data.max() == 1
    (path / '2.png').write_bytes((path / '2.png').read_bytes()[:60])
    for i, word in ((1, 'label 300'), (2, ''), (3, 'has the label 7: expected 0 to 2')):
        with pytest.raises(InputError) as caught:
            data[i]
        assert str(caught.value).startswith(str(path / f'{i}.png')) and word in str(caught.value)


def test_what_a_stranger_loads_as_colours(tmp_path):
    """Read by a step that is not the library's: what came of it is looked at."""

    def load(results):
        results.update(gt_seg_map=np.zeros((8, 10, 3), np.uint8), ori_shape=(8, 10))
        return results

    data = segments(make_set(tmp_path, [label_map(0, 1)]), steps=[STEPS[0], load])
    check_samples(data, network(), 'training')
    with pytest.raises(InputError, match=r'0\.png holds colours'):
        data[0]


@pytest.mark.parametrize(
    ('name', 'with_seg', 'ours'),
    [('LoadAnnotations', True, True), ('LoadAnnotations', False, False), ('LoadPanopticAnnotations', True, False)],
)
def test_loaders_of_detectors(name, with_seg, ours):
    """Panoptic maps are of colours, and right."""
    transforms = pytest.importorskip('mmdet.datasets.transforms')
    kind = getattr(transforms, name)
    step = kind.__new__(kind)  # a package that reads panoptic files may be missing
    step.with_seg = with_seg
    assert loads_labels(step) is ours


def load(path, **settings):
    step = TRANSFORMS.build(dict(type='LoadLabelMap', **settings))
    return step(dict(seg_map_path=str(path), seg_fields=[], reduce_zero_label=False, label_map=None))['gt_seg_map']


def test_a_loader_that_reads_deep_maps_right(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), DEEP)
    found = load(tmp_path / 'a.png')
    assert found.dtype == np.uint16 and np.array_equal(found, DEEP)
    found = load(tmp_path / 'a.png', mapping={300: 2, '1': 0})
    assert found.dtype == np.uint8 and set(np.unique(found)) == {0, 2}
    cv2.imwrite(str(tmp_path / 'b.png'), label_map(0, 1, 255))
    found = load(tmp_path / 'b.png', mapping={255: 1, 1: 255})  # at once, not one after the other
    assert np.array_equal(found, label_map(0, 255, 1))


def test_a_deep_map_goes_through_a_pipeline(tmp_path):
    steps = [
        STEPS[0],
        dict(type='LoadLabelMap'),
        dict(type='RandomResize', scale=(20, 16), ratio_range=(1.5, 2), keep_ratio=True),
        dict(type='RandomCrop', crop_size=(8, 8), ignore_index=65535),
        dict(type='RandomFlip', prob=1.0),
        dict(type='RandomRotate', prob=1.0, degree=5, seg_pad_val=65535),
        STEPS[2],
    ]
    data = segments(make_set(tmp_path, [label_map(299, 300, dtype=np.uint16)]), steps=steps)
    check_samples(data, network(400, 65535), 'training')
    assert set(data[0]['data_samples'].gt_sem_seg.data.unique().tolist()) <= {299, 300, 65535}


@pytest.mark.parametrize('mapping', [{-1: 0}, {0: 70000}, {'x': 1}, {1: None}])
def test_bad_mappings(mapping):
    with pytest.raises(ValueError, match='mapping='):
        TRANSFORMS.build(dict(type='LoadLabelMap', mapping=mapping))
