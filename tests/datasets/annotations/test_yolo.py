"""YOLO's text files: boxes and outlines as shares of the picture, and the lists of classes beside them."""

import pytest
from annotation_files import read, save_picture, write

from qsdt_mm.datasets.annotations.yolo import find_name_list, read_names
from qsdt_mm.errors import InputError

CLASSES = ['person', 'tie', 'bus']
# The box and the outlines with which Ultralytics explains the format.
BOX = '0 0.481719 0.634028 0.690625 0.713278\n'
OUTLINES = '0 0.681 0.485 0.670 0.487 0.676 0.487\n1 0.504 0.000 0.501 0.004 0.498 0.004 0.493 0.010 0.492 0.0104\n'


def yolo_set(root, text, size=(640, 480), encoding='utf-8', **picture):
    save_picture(root / 'images/a.jpg', size, **picture)
    write(root / 'labels/a.txt', text, encoding)
    return root


def test_boxes_and_outlines(tmp_path):
    (picture,), faults = read('yolo', yolo_set(tmp_path, BOX + '\n' + OUTLINES), classes=CLASSES)
    assert not faults.lines and [item.label for item in picture.objects] == ['person', 'person', 'tie']
    box, triangle, five = picture.objects
    left, top = (0.481719 - 0.690625 / 2) * 640, (0.634028 - 0.713278 / 2) * 480
    assert box.box == pytest.approx((left, top, left + 0.690625 * 640, top + 0.713278 * 480)) and not box.outlines
    assert triangle.outlines == [[(0.681 * 640, 0.485 * 480), (0.67 * 640, 0.487 * 480), (0.676 * 640, 0.487 * 480)]]
    assert triangle.box == pytest.approx((428.8, 232.8, 435.84, 233.76))
    assert len(five.outlines[0]) == 5 and five.place == 'line 4'


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_shares_are_those_of_the_upright_picture(tmp_path, orientation):
    (picture,), _ = read(
        'yolo', yolo_set(tmp_path, '2 0.5 0.5 0.5 1', (60, 40), orientation=orientation), classes=CLASSES
    )
    width, height = (60, 40) if orientation < 5 else (40, 60)
    assert (picture.width, picture.height) == (width, height)
    assert picture.objects[0].box == (width / 4, 0, width * 3 / 4, height)


@pytest.mark.parametrize(
    ('line', 'what'),
    [
        ('3 0.5 0.5 0.1 0.1', 'class 3 is not known: there are 3 classes, 0 to 2'),
        ('-1 0.5 0.5 0.1 0.1', 'class -1 is not known'),
        ('0.5 0.5 0.5 0.1 0.1', 'class 0.5 is not known'),
        ('dog 0.5 0.5 0.1 0.1', "'dog' is no number"),
        ('0 0,5 0.5 0.1 0.1', "'0,5' is no number"),
        ('0 0.5 0.5 0.1', '4 values: expected a class and 4 numbers'),
        ('0 0.5 0.5 0.1 0.1 0.93', '6 values'),
        ('0 0.1 0.1 0.5 0.5 0.9 0.9 0.2', '8 values'),
        ('0 0.5 nan 0.1 0.1', 'not finite'),
        ('0 320 240 100 50', '320 is no share of the picture: YOLO counts from 0 to 1, not in pixels'),
        ('0 0.9 0.5 0.4 0.1', 'stands out of the picture of 640 x 480'),
        ('0 0.5 0.5 0.0 0.1', 'has no area'),
        ('0 0.1 0.1 0.2 0.2 0.3 0.3', 'has no area'),
        ('0 -0.5 0.1 0.2 0.2 0.3 0.1', 'stands out of the picture'),
    ],
)
def test_faults_name_file_and_line(tmp_path, line, what):
    _, faults = read('yolo', yolo_set(tmp_path, f'0 0.5 0.5 0.1 0.1\n\n{line}\n'), classes=CLASSES)
    assert len(faults.lines) == 1 and 'a.txt, line 3: ' in faults.lines[0] and what in faults.lines[0]


def test_rounding_is_no_fault(tmp_path):
    """Six digits of a box at the edge; it ends there."""
    text = '0 0.5 0.5 1.000001 1.0\n0 0.000001 0.1 0.000781 0.1 0.5 0.2 -0.0005 0.3\n'
    (picture,), faults = read('yolo', yolo_set(tmp_path, text), classes=CLASSES)
    assert not faults.lines and picture.objects[0].box == (0, 0, 640, 480)
    assert min(x for x, _ in picture.objects[1].outlines[0]) == 0 == picture.objects[1].box[0]


def test_clipping(tmp_path):
    """A box loses what stands out, one outside is left out, an outline is cut along the edge."""
    text = '0 1.0 0.5 0.5 0.5\n1 1.5 0.5 0.5 0.5\n2 0.5 0.5 1.5 0.5 1.5 1.0 0.5 1.0\n'
    (picture,), faults = read('yolo', yolo_set(tmp_path, text, (64, 48)), classes=CLASSES, clip=True)
    box, outline = picture.objects
    assert not faults.lines and box.box == (48, 12, 64, 36)
    assert sorted(outline.outlines[0]) == [(32, 24), (32, 48), (64, 24), (64, 48)] and outline.box == (32, 24, 64, 48)
    assert faults.left_out == {'parts outside of the picture': 3, 'objects without an area': 1}


def test_repeated_lines_are_one_object(tmp_path):
    (picture,), faults = read('yolo', yolo_set(tmp_path, 2 * BOX + 2 * OUTLINES), classes=CLASSES)
    assert len(picture.objects) == 3 and faults.left_out == {'repetitions of an object': 3}


@pytest.mark.parametrize('empty', [True, False])
def test_pictures_without_objects(tmp_path, empty):
    """An empty file says that there is nothing; no file may mean that nobody looked."""
    yolo_set(tmp_path, '')
    save_picture(tmp_path / 'images/new.png', (20, 20))
    found, faults = read('yolo', tmp_path, classes=CLASSES, empty=empty)
    assert [picture.path.name for picture in found] == (['a.jpg', 'new.png'] if empty else ['a.jpg'])
    assert not faults.lines and bool(faults.left_out) is not empty


def test_folders_below_and_names_that_occur_twice(tmp_path):
    for part in ('train', 'val'):
        save_picture(tmp_path / f'images/{part}/a.png', (20, 20))
        write(tmp_path / f'labels/{part}/a.txt', BOX)
    found, faults = read('yolo', tmp_path, classes=CLASSES)
    assert not faults.lines and [picture.path.parent.name for picture in found] == ['train', 'val']
    save_picture(tmp_path / 'images/train/a.jpg', (20, 20))
    _, faults = read('yolo', tmp_path, classes=CLASSES)
    assert len(faults.lines) == 1 and 'several pictures are called train/a' in faults.lines[0]


def test_a_file_that_is_no_picture(tmp_path):
    yolo_set(tmp_path, BOX)
    (tmp_path / 'images/a.jpg').write_bytes(b'\xff\xd8 not a picture')
    _, faults = read('yolo', tmp_path, classes=CLASSES)
    assert len(faults.lines) == 1 and 'a.jpg is no picture that can be read' in faults.lines[0]


def test_text_in_another_encoding(tmp_path):
    (picture,), faults = read('yolo', yolo_set(tmp_path, BOX, encoding='utf-16'), classes=CLASSES)
    assert not faults.lines and len(picture.objects) == 1
    (tmp_path / 'labels/a.txt').write_bytes(b'0 0.5 0.5 0.1 0.1\n\xff\xfa\n')
    _, faults = read('yolo', tmp_path, classes=CLASSES)
    assert 'a.txt, line 2: no utf-8 text' in faults.lines[0]


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('classes.txt', 'person\r\ntie\r\nbus\r\n'),
        ('labels.txt', '__ignore__\n_background_\nperson\ntie\nbus'),
        ('data.yaml', 'path: ../data\ntrain: images/train\nnc: 3\nnames: [person, tie, bus]\n'),
        ('data.yaml', '# by number\nnames:\n  0: person\n  2: bus\n  1: tie\n'),
    ],
)
def test_lists_of_classes(tmp_path, name, text):
    write(tmp_path / name, text)
    assert read_names(tmp_path / name) == CLASSES
    (tmp_path / 'labels/train').mkdir(parents=True)
    assert find_name_list(tmp_path / 'labels/train') == tmp_path / name


@pytest.mark.parametrize(
    ('name', 'text', 'what'),
    [
        ('classes.txt', '\n', 'names no class'),
        ('classes.txt', 'person\n\ntie\n', "class 1 has the name ''"),
        ('classes.txt', 'person\nperson\n', "names the class 'person' twice"),
        ('data.yaml', 'names: [a, b', 'is no YAML file'),
        ('data.yaml', 'nc: 3\n', 'has no list "names"'),
        ('data.yaml', 'names: {0: a, 2: b}\n', 'the numbers of its names are not 0 to 1'),
        ('data.yaml', 'names: !!python/object/apply:os.system ["true"]\n', 'is no YAML file'),
    ],
)
def test_lists_that_are_of_no_use(tmp_path, name, text, what):
    write(tmp_path / name, text)
    with pytest.raises(InputError, match='^' + str(tmp_path / name)) as caught:
        read_names(tmp_path / name)
    assert what in str(caught.value)
