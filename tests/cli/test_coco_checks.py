"""What the boxes and outlines of a COCO file mean: told from the file as a whole, and said in a line."""

import json
import re

import numpy as np
import pytest

from qsdt_mm.cli.annotation_checks import check_coco_file
from qsdt_mm.cli.annotation_uses import Use
from qsdt_mm.datasets.coco_files import take
from qsdt_mm.errors import InputError

SIZE = 640, 480


def drawn(images=20, each=5, seed=0, outlines=True, size=SIZE):
    """A file of boxes anywhere in images, with outlines of eight points."""
    numbers = np.random.default_rng(seed)
    held = dict(images=[], annotations=[], categories=[dict(id=3, name='green'), dict(id=7, name='red')])
    for image in range(images):
        held['images'].append(dict(id=image, file_name=f'{image}.png', width=size[0], height=size[1]))
        for _ in range(each):
            w, h = numbers.uniform(4, size[0] / 2), numbers.uniform(4, size[1] / 2)
            x, y = numbers.uniform(0, size[0] - w), numbers.uniform(0, size[1] - h)
            row = dict(id=len(held['annotations']) + 1, image_id=image, category_id=int(numbers.choice([3, 7])))
            row.update(bbox=[x, y, w, h], area=w * h, iscrowd=0)
            if outlines:
                turns = np.linspace(0, 2 * np.pi, 8, endpoint=False)
                points = np.stack([x + w / 2 * (1 + np.cos(turns)), y + h / 2 * (1 + np.sin(turns))], 1)
                row['segmentation'] = [points.ravel().tolist()]
            held['annotations'].append(row)
    return held


def check(tmp_path, held, **use):
    """Check a file; return remarks, and what is handed over of it."""
    path, remarks = tmp_path / 'set.json', []
    path.write_text(json.dumps(held))
    use = Use(**dict(dict(split='train', file=str(path), classes=('green', 'red')), **use))
    check_coco_file(path, uses=[use], remark=remarks.append)
    assert all(str(path) in line and '\n' not in line for line in remarks)
    return remarks, take(path).content(use.outlines)['annotations']


def refusal(tmp_path, held, **use):
    with pytest.raises(InputError) as caught:
        check(tmp_path, held, **use)
    assert str(tmp_path / 'set.json') in str(caught.value) and '\n' not in str(caught.value)
    return str(caught.value)


def change(held, function):
    """Another ``bbox`` for every annotation: a function of left, top, width, height and the image's sides."""
    for row in held['annotations']:
        row['bbox'] = [float(value) for value in function(*row['bbox'], *SIZE)]
    return held


READINGS = {
    'corners': lambda x, y, w, h, *size: (x, y, x + w, y + h),
    'centre': lambda x, y, w, h, *size: (x + w / 2, y + h / 2, w, h),
    'fractions': lambda x, y, w, h, W, H: (x / W, y / H, w / W, h / H),
    'fractions of the image, by their centres': lambda x, y, w, h, W, H: (
        (x + w / 2) / W,
        (y + h / 2) / H,
        w / W,
        h / H,
    ),
    'per cent': lambda x, y, w, h, W, H: (100 * x / W, 100 * y / H, 100 * w / W, 100 * h / H),
    'top, left': lambda x, y, w, h, *size: (y, x, h, w),
}


@pytest.mark.parametrize('name', READINGS)
def test_outlines_tell_how_boxes_are_written(tmp_path, name):
    said = refusal(tmp_path, change(drawn(), READINGS[name]))
    assert name in said and 'expected [left, top, width, height] in pixels' in said and '100 boxes' in said


@pytest.mark.parametrize('name', ['corners', 'fractions', 'fractions of the image, by their centres', 'per cent'])
@pytest.mark.parametrize('each', [1, 5])
def test_boxes_alone_tell_it_too(tmp_path, name, each):
    assert name.split(' of')[0] in refusal(tmp_path, change(drawn(outlines=False, each=each), READINGS[name]))


def test_the_same_small_boxes_everywhere_are_no_per_cent(tmp_path):
    assert check(tmp_path, change(drawn(outlines=False), lambda *box: (5, 5, 90, 90)))[0] == []
    assert check(tmp_path, change(drawn(outlines=False), lambda x, y, *box: (x / 20, y / 20, 20, 20)))[0] == []


def test_few_outlines_tell_nothing(tmp_path):
    held = drawn()
    for row in held['annotations'][10:]:
        del row['segmentation']
    for row in held['annotations'][:10]:
        row['segmentation'] = [[0, 0, 3, 0, 3, 3]]
    assert check(tmp_path, held)[0] == []


def test_centres_without_outlines_are_suspected(tmp_path):
    remarks, _ = check(tmp_path, change(drawn(outlines=False), READINGS['centre']))
    assert len(remarks) == 1 and 'nearly all fit as centre, width, height' in remarks[0]


@pytest.mark.parametrize('outlines', [True, False])
def test_what_is_right_passes_in_silence(tmp_path, outlines):
    for size in ((640, 480), (97, 131), (5000, 300)):
        held = drawn(size=size, outlines=outlines)
        remarks, kept = check(tmp_path, held, outlines=outlines)
        assert remarks == [] and kept == held['annotations']


def test_large_objects_seen_in_part_are_no_corners(tmp_path):
    """Every box is wider than it is far from the left, half of them leave the image: outlines tell, or other sides."""
    held = drawn(each=2)
    for i, row in enumerate(held['annotations']):
        x, y, w, h = (20.0, 30.0, 640.0, 400.0) if i % 2 else (10.0, 5.0, 600.0, 460.0)
        row.update(bbox=[x, y, w, h], area=w * h, segmentation=[[x, y, min(x + w, 640), y, min(x + w, 640), y + h]])
    remarks, kept = check(tmp_path, held)
    assert len(remarks) == 1 and '20 of 40 boxes leave their image, by up to 20.0 px' in remarks[0] and len(kept) == 40
    for i, row in enumerate(held['annotations']):
        del row['segmentation']
        row['bbox'][0] = -12 if i % 4 < 2 else 8
    assert '40 boxes leave' in check(tmp_path, held)[0][0]


def test_rounding_is_counted(tmp_path):
    held = drawn()
    held['annotations'][8]['bbox'] = [600, 400, 40.4, 60]
    held['annotations'][8]['segmentation'] = None
    (remark,) = check(tmp_path, held)[0]
    assert '1 of 100 boxes leave their image, by up to 0.4 px' in remark and 'annotation 9: [600' in remark


def test_single_bad_boxes_are_left_out_with_a_count(tmp_path):
    held = drawn()
    for i, box in enumerate([[5, 5, 0, 9], [5, 5, 9, -3], [700, 5, 9, 9], [5, 5, 0.2, 0.3]]):
        held['annotations'][i].update(bbox=box)
    held['annotations'][9]['area'] = 0
    (remark,), kept = check(tmp_path, held)
    assert '5 of 100 boxes are left out: 3 less than 1 px wide or high, 1 outside of their image, 1 with an' in remark
    assert [row['id'] for row in kept] == list(range(3, 101))  # mmdet passes over the others by itself


@pytest.mark.parametrize(
    ('box', 'area', 'hint'),
    [
        ([5, 5, 0, 0], 4, 'fractions?'),
        ([5, 5, -20, -20], 4, 'fractions?'),
        ([9000, 5, 20, 20], 400, '100 outside of their image'),
        ([5, 5, 20, 20], 0, "100 with an 'area' of 0"),
    ],
)
def test_nothing_is_left(tmp_path, box, area, hint):
    held = drawn(outlines=False)
    for row in held['annotations']:
        row.update(bbox=box, area=area)
    said = refusal(tmp_path, held)
    assert '0 of 100 boxes are left' in said and hint in said
    held['annotations'][0].update(bbox=[5, 5, 20, 20], area=400)
    assert '99 of 100 boxes are left out' in check(tmp_path, held)[0][0]


def outlines(held, function):
    for i, row in enumerate(held['annotations']):
        row['segmentation'] = function(row['segmentation'], i)
    return held


@pytest.mark.parametrize('nothing', [None, [], [[]]])
def test_no_outlines(tmp_path, nothing):
    held = outlines(drawn(), lambda shape, i: nothing)
    check(tmp_path, held)
    assert 'has no outlines (segmentation) for its 100 boxes' in refusal(tmp_path, held, outlines=True)
    held = outlines(drawn(), lambda shape, i: shape if i % 10 else nothing)
    (remark,), kept = check(tmp_path, held, outlines=True)
    assert '10 of 100 annotations are left out for want of an outline: 10 without any' in remark
    assert [row['id'] for row in kept] == [i + 1 for i in range(100) if i % 10]
    assert len(check(tmp_path, held)[1]) == 100


@pytest.mark.parametrize('short', [[1, 2, 30, 40], [1, 2, 30, 40, 5], [1, 2], [1, 2, 3, 4, 5, 6, 7]])
def test_outlines_of_too_few_points(tmp_path, short):
    held = outlines(drawn(), lambda shape, i: [short])
    said = refusal(tmp_path, held, outlines=True)
    assert 'none of 100 outlines can be used (100 of less than three points)' in said
    held = outlines(drawn(), lambda shape, i: [short] if i == 4 else [*shape, short] if i == 6 else shape)
    remarks, kept = check(tmp_path, held, outlines=True)
    assert '1 of 100 annotations are left out' in remarks[0] and 'first: annotation 5' in remarks[0]
    assert 'parts of less than three points are left out of 1 outlines (first: annotation 7)' in remarks[1]
    assert len(kept) == 99 and [len(row['segmentation']) for row in kept] == [1] * 99


def test_run_length_codes_where_they_are_not_read(tmp_path):
    held = outlines(drawn(), lambda shape, i: dict(size=[480, 640], counts=[100, 50, 640 * 480 - 150]))
    assert check(tmp_path, held, outlines=True)[0] == []
    assert 'poly2mask=False' in refusal(tmp_path, held, outlines=True, bitmaps=False)
    held['annotations'][5]['segmentation'] = [[1, 2, 30, 40, 50, 6]]
    (remark,) = check(tmp_path, held, outlines=True, bitmaps=False)[0]
    assert '99 run-length codes' in remark


def test_empty_run_length_codes_are_no_outlines(tmp_path):
    """They were trained on as masks without a pixel."""
    whole = [100, 50, 640 * 480 - 150]
    held = outlines(drawn(), lambda shape, i: dict(size=[480, 640], counts='' if i == 1 else whole))
    (remark,) = check(tmp_path, held, outlines=True)[0]
    assert '1 of' in remark and 'left out for want of an outline: 1 without any' in remark


def test_crowds(tmp_path):
    held = drawn()
    for row in held['annotations'][:-1]:
        row['iscrowd'] = 1
    check(tmp_path, held, outlines=True)
    held['annotations'][-1]['iscrowd'] = 1
    assert 'all 100 annotations have iscrowd=1' in refusal(tmp_path, held)


def test_classes_without_a_category(tmp_path):
    said = refusal(tmp_path, drawn(), classes=('green', 'blue', 'grey'), given=True)
    assert "no category 'blue' and 1 more" in said
    assert 'the classes are green, blue, grey; its categories are green, red' in said
    said = refusal(tmp_path, drawn(), classes=tuple(f'class {i}' for i in range(80)))
    assert '... (80)' in said and 'metainfo=dict(classes=(...))' in said


def test_the_order_of_labels(tmp_path):
    (remark,) = check(tmp_path, drawn(), classes=('red',))[0]
    assert re.search(
        r'\d+ of 100 annotations are left out: their categories are not among the classes \(green\)', remark
    )
    (remark,) = check(tmp_path, drawn(), classes=('red', 'green'))[0]
    assert "label 0 is 'green', but is called 'red' in pictures: write classes=('green', 'red')" in remark
    held = drawn()
    held['categories'].append(dict(id=8, name='red'))
    assert "'red' is there twice among the categories" in refusal(tmp_path, held)


def test_what_else_people_write(tmp_path):
    """Keys of other tasks, run-length codes of crowds, images without objects, gaps in ids, words as ids."""
    held = drawn()
    held['info'], held['images'][3]['license'] = dict(year=2020), 3
    held['images'].append(dict(id=999, file_name='a/b c.png', width=5, height=6))
    crowd = dict(bbox=[0, 0, 640, 480], area=9, iscrowd=1, segmentation=dict(size=[480, 640], counts='abc'))
    held['annotations'][2].update(crowd, keypoints=[1, 2, 2], num_keypoints=1)
    for row in held['annotations']:
        row['id'] = f'box {row["id"]}'
        row['image_id'] = str(row['image_id'])
    for row in held['images']:
        row['id'] = str(row['id'])
    del held['annotations'][4]['iscrowd']
    remarks, kept = check(tmp_path, held, outlines=True)
    assert remarks == [] and [row['id'] for row in kept] == list(range(1, 101))  # as pycocotools needs them
    assert kept[4]['iscrowd'] == 0
    held['images'][0]['id'] = 0
    assert 'ids of images are numbers (0) and words' in refusal(tmp_path, held)


def test_somebody_elses_reading_of_boxes(tmp_path):
    """A class of one's own may take corners."""
    assert check(tmp_path, change(drawn(), READINGS['corners']), plain=False)[0] == []


@pytest.mark.parametrize('value', ['1e999', 'NaN', '-Infinity', '1' + '0' * 400, '"5"', 'true', 'null', '[5]'])
@pytest.mark.parametrize('key', ['bbox', 'area', 'segmentation'])
def test_numbers_that_are_none(tmp_path, key, value):
    if (key, value) == ('segmentation', 'true'):
        return  # counts as 1
    held = drawn(images=2)
    held['annotations'][3][key] = dict(bbox=[1, 2, 'X', 4], area='X', segmentation=[[1, 2, 3, 4, 'X', 6]])[key]
    path = tmp_path / 'set.json'
    path.write_text(json.dumps(held).replace('"X"', value))
    with pytest.raises(InputError, match=rf'annotations\[3\] has {key}'):
        check_coco_file(path)


def test_images_named_by_address(tmp_path):
    """As in LVIS v1."""
    held = drawn()
    for row in held['images']:
        row['coco_url'] = f'http://images/train/{row.pop("file_name")}'
    assert 'file_name None' in refusal(tmp_path, held)
    assert check(tmp_path, held, names=('file_name', 'coco_url'))[0] == []
