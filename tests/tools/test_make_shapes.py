"""Example data that is drawn: boxes, outlines and label images say the same, and nothing else is replaced."""

import json

import cv2
import numpy as np
import pytest
import toy_runs as toy

TOOL = 'dataset_converters/make_shapes'


def run(*words):
    return toy.tool(TOOL).main([*map(str, words)])


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    assert run(folder, '--train', 6, '--val', 4, '--size', 96) == 0
    return folder


@pytest.mark.parametrize(('part', 'number'), [('train', 6), ('val', 4)])
def test_annotations_and_label_images_agree(shapes, part, number):
    coco = json.loads((shapes / f'annotations/instances_{part}.json').read_text())
    names = [category['name'] for category in coco['categories']]
    assert names == ['circle', 'square', 'triangle'] and len(coco['images']) == number
    for image in coco['images']:
        picture = cv2.imread(str(shapes / f'scenes/{part}' / image['file_name']))
        mask = cv2.imread(str(shapes / f'masks/{part}' / image['file_name']), cv2.IMREAD_GRAYSCALE)
        assert picture.shape == (96, 96, 3) and mask.shape == (96, 96)
        own = [a for a in coco['annotations'] if a['image_id'] == image['id']]
        assert 1 <= len(own) <= 4
        assert set(np.unique(mask)) == {0} | {a['category_id'] for a in own}
        assert (mask > 0).sum() == sum(a['area'] for a in own)  # they do not touch
        for a in own:
            x, y, width, height = a['bbox']
            assert x >= 0 and y >= 0 and x + width <= 96 and y + height <= 96
            points = np.array(a['segmentation'][0]).reshape(-1, 2)
            assert np.allclose([*points.min(0), *(points.max(0) - points.min(0))], a['bbox'], atol=0.02)
            inside = mask[round(points[:, 1].mean()), round(points[:, 0].mean())]
            assert inside == a['category_id']
            drawn = np.zeros_like(mask)
            cv2.fillPoly(drawn, [np.round(points).astype(np.int32)], 1)
            assert abs(int(drawn.sum()) - a['area']) < 0.15 * a['area']


@pytest.mark.parametrize('part', ['train', 'val'])
def test_yolo_says_the_same_as_coco(shapes, part, tmp_path):
    """Converted, boxes and classes are those that were drawn; YOLO's six digits are of a size of 96 px."""
    words = ('yolo', shapes / 'yolo' / part, '--images', shapes / 'scenes' / part, '--out', tmp_path, '--part', part)
    assert toy.tool('dataset_converters/to_coco').main([*map(str, words)]) == 0
    name = f'instances_{part}.json'
    drawn, read = (json.loads((folder / name).read_text()) for folder in (shapes / 'annotations', tmp_path))
    assert (read['images'], read['categories']) == (drawn['images'], drawn['categories'])
    for one, other in zip(read['annotations'], drawn['annotations'], strict=True):
        assert all(one[key] == other[key] for key in ('id', 'image_id', 'category_id'))
        assert np.allclose(one['bbox'], other['bbox'], atol=0.02)


def test_crops_are_in_folders_of_classes(shapes):
    for part, number in (('train', 12), ('val', 8)):
        assert sorted(path.name for path in (shapes / 'crops' / part).iterdir()) == ['circle', 'square', 'triangle']
        for folder in (shapes / 'crops' / part).iterdir():
            crops = [cv2.imread(str(path)) for path in folder.iterdir()]
            assert len(crops) == number and all(crop.shape == (32, 32, 3) for crop in crops)


def test_the_seed_decides(shapes, tmp_path):
    for name, seed in (('same', 0), ('other', 1)):
        assert run(tmp_path / name, '--train', 6, '--val', 4, '--size', 96, '--seed', seed) == 0
    scene = 'scenes/train/0003.png'
    first = (shapes / scene).read_bytes()
    assert (tmp_path / 'same' / scene).read_bytes() == first != (tmp_path / 'other' / scene).read_bytes()


def test_what_is_there_stays(tmp_path, capsys):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.tex').write_text('years of work')
    assert run(tmp_path / 'mine') == 2
    assert run(tmp_path / 'mine', '--overwrite') == 2
    lines = toy.our_lines(capsys.readouterr().err, 'make_shapes.py')
    assert 'exists: name another folder' in lines[0] and 'was not made by make_shapes.py: not replaced' in lines[1]
    assert [path.name for path in tmp_path.rglob('*')] == ['mine', 'thesis.tex']
    assert run(tmp_path / 'new', '--train', 2, '--val', 1) == 0
    assert run(tmp_path / 'new', '--train', 1, '--val', 1, '--overwrite') == 0
    assert len(list((tmp_path / 'new/scenes/train').iterdir())) == 1


@pytest.mark.parametrize(('word', 'value', 'least'), [('--train', 0, 1), ('--val', 0, 1), ('--size', 32, 48)])
def test_bad_options(capsys, word, value, least):
    with pytest.raises(SystemExit) as caught:
        run('data', word, value)
    assert caught.value.code == 2 and f'{word} must be at least {least}, got {value}' in capsys.readouterr().err
