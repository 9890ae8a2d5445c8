"""Labelme's JSON: rectangles, polygons, circles, painted masks, groups, and shapes without an area."""

import base64
import io
import json

import numpy as np
import pytest
from annotation_files import read, save_picture, write
from PIL import Image


def shape(label, points, kind='polygon', **more):
    return dict(label=label, points=points, group_id=None, description='', shape_type=kind, flags={}, **more)


def labelme(*shapes, size=(60, 40), **more):
    held = dict(version='5.5.0', flags={}, shapes=list(shapes), imagePath='a.jpg', imageData=None)
    return json.dumps({**held, 'imageHeight': size[1], 'imageWidth': size[0], **more}, indent=2)


def labelme_set(root, text, size=(60, 40), **picture):
    save_picture(root / 'images/a.jpg', size, **picture)
    write(root / 'labels/a.json', text)
    return root


def png(mask):
    data = io.BytesIO()
    Image.fromarray(mask).save(data, 'png')
    return base64.b64encode(data.getvalue()).decode()


def test_rectangles_and_polygons(tmp_path):
    """A rectangle has two corners, in whatever order."""
    triangle = [[10.5, 10], [30, 10], [20, 30]]
    text = labelme(shape('dog', [[30, 5.5], [10, 25]], 'rectangle'), shape('cat', triangle))
    (picture,), faults = read('labelme', labelme_set(tmp_path, text))
    assert not faults.lines
    dog, cat = picture.objects
    assert (dog.label, dog.box, dog.outlines) == ('dog', (10, 5.5, 30, 25), [])
    assert (cat.box, cat.outlines) == ((10.5, 10, 30, 30), [[tuple(point) for point in triangle]])


@pytest.mark.parametrize('kind', ['rectangle', 'rotation', 'oriented_rectangle'])
def test_rotated_rectangles_are_polygons(tmp_path, kind):
    points = [[20, 5], [35, 20], [30, 25], [15, 10]]
    (picture,), _ = read('labelme', labelme_set(tmp_path, labelme(shape('ship', points, kind, direction=0.78))))
    assert picture.objects[0].box == (15, 5, 35, 25) and len(picture.objects[0].outlines[0]) == 4


def test_circles(tmp_path):
    """Centre and a point on the edge; what stands out of the picture is cut off."""
    text = labelme(shape('cell', [[20, 20], [23, 24]], 'circle'), shape('cell', [[58, 20], [48, 20]], 'circle'))
    (picture,), faults = read('labelme', labelme_set(tmp_path, text))
    whole, cut = picture.objects
    assert not faults.lines and whole.box == (15, 15, 25, 25)
    assert np.allclose([np.hypot(x - 20, y - 20) for x, y in whole.outlines[0]], 5)
    assert cut.box == (48, 10, 60, 30) and max(x for x, _ in cut.outlines[0]) == 60


def test_painted_masks(tmp_path):
    """A PNG of the box's size, whose corners are pixels."""
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:] = 1
    text = labelme(shape('leaf', [[10, 20], [15, 23]], 'mask', mask=png(mask)))
    (picture,), faults = read('labelme', labelme_set(tmp_path, text))
    assert not faults.lines and picture.objects[0].box == (10, 20, 16, 24)
    ((left, top, pixels),) = picture.objects[0].masks
    assert (left, top) == (10, 20) and np.array_equal(pixels, mask > 0)


def test_a_group_is_one_object(tmp_path):
    """By label and number: a horse behind a tree, beside another with the same number."""
    one, other = [[1, 1], [9, 1], [9, 9]], [[20, 20], [30, 20], [30, 30]]
    shapes = [
        dict(shape(label, points), group_id=7) for label, points in (('horse', one), ('tree', one), ('horse', other))
    ]
    (picture,), _ = read(
        'labelme', labelme_set(tmp_path, labelme(*shapes, shape('horse', [[40, 1], [50, 9]], 'rectangle')))
    )
    assert [(item.label, item.box, len(item.outlines)) for item in picture.objects] == [
        ('horse', (1, 1, 30, 30), 2),
        ('tree', (1, 1, 9, 9), 1),
        ('horse', (40, 1, 50, 9), 0),
    ]


@pytest.mark.parametrize('kind', ['point', 'line', 'linestrip', 'points'])
def test_shapes_without_an_area_are_counted(tmp_path, kind):
    text = labelme(shape('eye', [[3, 3], [9, 9]], kind), shape('dog', [[1, 1], [9, 9]], 'rectangle'))
    (picture,), faults = read('labelme', labelme_set(tmp_path, text))
    assert len(picture.objects) == 1 and faults.left_out == {f'shapes of the type {kind}': 1} and not faults.lines


@pytest.mark.parametrize(
    ('bad', 'what'),
    [
        (shape('dog', [[1, 1], [99, 9]], 'rectangle'), 'stands out of the picture of 60 x 40'),
        (shape('dog', [[1, 1], [1, 9]], 'rectangle'), 'has no area'),
        (shape('dog', [[1, 1], [5, 5], [9, 9]]), 'has no area'),
        (shape('dog', [[5, 5], [5, 5]], 'circle'), None),
        (shape('dog', [[1, 1], [9, 9]]), 'a polygon of 2 points'),
        (shape('dog', [[1, 1]], 'rectangle'), 'a rectangle of 1 points'),
        (shape('dog', [[1, 1], [9, 9, 9]], 'rectangle'), 'point [9, 9, 9]: expected two numbers'),
        (shape('dog', [[1, 1], [True, 9]], 'rectangle'), 'expected two numbers'),
        (shape('dog', [[1, 1], [10**400, 9]], 'rectangle'), 'expected two numbers'),
        (shape('dog', [[1, 1], [float('nan'), 9]], 'rectangle'), 'expected two numbers'),
        (shape('dog', None), 'no list "points"'),
        (shape('', [[1, 1], [9, 9]], 'rectangle'), "label ''"),
        (shape(3, [[1, 1], [9, 9]], 'rectangle'), 'label 3'),
        (shape('dog', [[1, 1], [9, 9]], 'spline'), "shape_type 'spline' is not known"),
        (
            shape('dog', [[1, 1], [9, 9]], 'mask', mask=png(np.ones((3, 3), np.uint8))),
            'a mask of 3 x 3 in a box of 9 x 9',
        ),
        (shape('dog', [[1, 1], [9, 9]], 'mask', mask='AAAA'), 'no PNG in base64'),
        (shape('dog', [[1, 1], [9, 9]], 'mask'), 'no PNG in base64'),
        (dict(shape('dog', [[1, 1], [9, 9]], 'rectangle'), group_id=[1]), 'group_id [1]'),
        ('dog', 'expected an object'),
    ],
)
def test_faults_name_file_and_shape(tmp_path, bad, what):
    good = shape('dog', [[1, 1], [9, 9]], 'rectangle')
    _, faults = read('labelme', labelme_set(tmp_path, labelme(good, bad)))
    if what is None:  # circles may be cut off, down to nothing
        assert not faults.lines and faults.left_out == {'objects without an area': 1}
        return
    assert len(faults.lines) == 1 and 'a.json, shapes[1]: ' in faults.lines[0] and what in faults.lines[0]


@pytest.mark.parametrize(
    ('text', 'what'),
    [
        ('{"shapes": [}', 'a.json, line 1: no JSON'),
        ('[' * 100_000, 'a.json'),
        ('{"images": []}', 'a.json is no file of Labelme'),
        ('[]', 'a.json is no file of Labelme'),
        (labelme(size=(61, 40)), 'is 60 x 40, but its annotations speak of 61 x 40'),
    ],
)
def test_files_that_are_of_no_use(tmp_path, text, what):
    _, faults = read('labelme', labelme_set(tmp_path, text))
    assert len(faults.lines) == 1 and what in faults.lines[0]


def test_shapes_drawn_on_a_picture_on_its_side(tmp_path):
    """Older versions of Labelme showed pictures as they are stored; the sizes tell."""
    triangle = shape('dog', [[0, 0], [10, 0], [0, 5]])
    for size, first in (((40, 60), (0, 0)), ((60, 40), (40, 0))):
        (picture,), faults = read('labelme', labelme_set(tmp_path, labelme(triangle, size=size), orientation=6))
        assert not faults.lines and (picture.width, picture.height) == (40, 60)
        assert picture.objects[0].outlines[0][0] == first


def test_the_picture_is_where_the_file_says(tmp_path):
    save_picture(tmp_path / 'images/deep/photo.png', (60, 40))
    write(tmp_path / 'labels/one.json', labelme(imagePath='..\\images\\deep\\photo.png'))
    (picture,), faults = read('labelme', tmp_path)
    assert not faults.lines and picture.path == tmp_path / 'images/deep/photo.png'


def test_names_that_occur_in_several_folders(tmp_path):
    """A file belongs to the picture beside it; one that could be of any is a fault."""
    for part in ('train', 'val'):
        save_picture(tmp_path / f'images/{part}/a.jpg', (60, 40))
        write(tmp_path / f'labels/{part}/a.json', labelme())
    found, faults = read('labelme', tmp_path)
    assert not faults.lines and [picture.path.parent.name for picture in found] == ['train', 'val']
    write(tmp_path / 'labels/a.json', labelme())
    _, faults = read('labelme', tmp_path)
    assert len(faults.lines) == 1 and 'several pictures are called a.jpg' in faults.lines[0]
