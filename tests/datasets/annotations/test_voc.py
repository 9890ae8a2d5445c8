"""PASCAL VOC's XML, as its development kit, labelImg, roLabelImg and Roboflow write it."""

import pytest
from annotation_files import read, save_picture, write

# VOC2007's 000001.xml, in a smaller picture.
VOC = """<annotation>
\t<folder>VOC2007</folder>
\t<filename>000001.jpg</filename>
\t<source>
\t\t<database>The VOC2007 Database</database>
\t</source>
\t<size>
\t\t<width>353</width>
\t\t<height>500</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
\t<object>
\t\t<name>dog</name>
\t\t<pose>Left</pose>
\t\t<truncated>1</truncated>
\t\t<difficult>0</difficult>
\t\t<bndbox>
\t\t\t<xmin>48</xmin>
\t\t\t<ymin>240</ymin>
\t\t\t<xmax>195</xmax>
\t\t\t<ymax>371</ymax>
\t\t</bndbox>
\t</object>
\t<object>
\t\t<name>person</name>
\t\t<difficult>1</difficult>
\t\t<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>353</xmax><ymax>500</ymax></bndbox>
\t\t<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></part>
\t</object>
</annotation>
"""
SIZE = (353, 500)


def annotation(*objects, size=SIZE, filename='000001.jpg', head=''):
    """An XML file of labelImg's kind; objects are (name, xmin, ymin, xmax, ymax), each on a line, from line 3 on."""
    keys = ('xmin', 'ymin', 'xmax', 'ymax')
    rows = [
        f'<object><name>{name}</name><bndbox>{"".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, box))}</bndbox></object>'
        for name, *box in objects
    ]
    width, height = size
    return '\n'.join(
        [
            f'{head}<annotation><filename>{filename}</filename>',
            f'<size><width>{width}</width><height>{height}</height><depth>3</depth></size>',
            *rows,
            '</annotation>',
        ]
    )


def voc_set(root, text=VOC, size=SIZE, encoding='utf-8', **picture):
    save_picture(root / 'images/000001.jpg', size, **picture)
    write(root / 'labels/000001.xml', text, encoding)
    return root


def test_pixels_are_counted_from_one(tmp_path):
    """A box over the whole picture, 1 to its sides, is the picture; parts of an object are no objects."""
    (picture,), faults = read('voc', voc_set(tmp_path))
    assert not faults.lines and (picture.width, picture.height) == SIZE
    dog, person = picture.objects
    assert (dog.label, dog.box, dog.ignored) == ('dog', (47, 239, 195, 371), False)
    assert (person.label, person.box, person.ignored) == ('person', (0, 0, 353, 500), True)


@pytest.mark.parametrize(
    ('box', 'origin', 'read_as'),
    [
        ((0, 10, 353, 20), None, (0, 10, 353, 20)),  # one that begins at 0 tells that the set counts from there
        ((1, 10, 353, 20), None, (0, 9, 353, 20)),
        ((1, 10, 353, 20), 0, (1, 10, 353, 20)),
        (('56.25', '10.5', 60, 20), 0, (56.25, 10.5, 60, 20)),
    ],
)
def test_origin(tmp_path, box, origin, read_as):
    (picture,), faults = read('voc', voc_set(tmp_path, annotation(('dog', *box))), origin=origin)
    assert not faults.lines and picture.objects[0].box == read_as


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'gbk', 'shift_jis'])
def test_encodings(tmp_path, encoding):
    """Those that a file declares, and those that its first bytes say."""
    head = f"<?xml version='1.0' encoding='{encoding.removesuffix('-sig')}'?>\n"
    (picture,), faults = read('voc', voc_set(tmp_path, annotation(('犬', 1, 1, 9, 9), head=head), encoding=encoding))
    assert not faults.lines and picture.objects[0].label == '犬'


BOMB = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>\n'
OUTSIDE = '<!DOCTYPE a [\n<!ENTITY secret SYSTEM "file:///etc/passwd">]>\n'


@pytest.mark.parametrize(
    ('text', 'place', 'what'),
    [
        (BOMB + annotation(('&b;', 1, 1, 9, 9)), 'line 1', 'declares an entity, which is refused'),
        (OUTSIDE + annotation(('&secret;', 1, 1, 9, 9)), 'line 2', 'declares an entity, which is refused'),
        (annotation().replace('</annotation>', ''), 'line 3', 'no XML'),
        (annotation(('dog', 5, 5, 20, 20), size=('wide', 500)), '', "<width> is 'wide', which is no number"),
        ('', 'line 1', 'no XML: no element found'),
        ('<html><body/></html>', 'line 1', '<html> where <annotation> is expected'),
        (annotation(('dog', 5, 5, 5000, 20)), 'line 3', 'stands out of the picture of 353 x 500'),
        (annotation(('dog', 5, 5, 9, 9), ('dog', -9, 5, 9, 20)), 'line 4', 'stands out of the picture'),
        (annotation(('dog', 50, 5, 20, 20)), 'line 3', 'has no area'),
        (annotation(('dog', 'left', 5, 20, 20)), 'line 3', "<xmin> is 'left', which is no number"),
        (annotation(('dog', 'nan', 5, 20, 20)), 'line 3', 'no number'),
        (annotation(('dog', 5, 5, 20)), 'line 3', 'a number is missing'),
        (annotation((' ', 5, 5, 20, 20)), 'line 3', 'an object without a name'),
        (annotation().replace('</annotation>', '<object><name>cat</name></object></annotation>'), 'line 3', '<bndbox>'),
        (
            annotation(('dog', 5, 5, 20, 20), size=(640, 480)),
            '',
            'is 353 x 500, but its annotations speak of 640 x 480',
        ),
    ],
)
def test_faults_name_file_and_line(tmp_path, text, place, what):
    _, faults = read('voc', voc_set(tmp_path, text))
    assert len(faults.lines) == 1
    assert '000001.xml' in faults.lines[0] and place in faults.lines[0] and what in faults.lines[0]


def test_the_picture_has_the_name_of_the_file_or_the_one_it_says(tmp_path):
    save_picture(tmp_path / 'images/a.JPG', (30, 20))
    save_picture(tmp_path / 'images/deep/c.png', (30, 20))
    box = ('dog', 1, 1, 9, 9)
    write(tmp_path / 'labels/a.xml', annotation(box, size=(30, 20), filename='C:\\photos\\old name.jpg'))
    write(tmp_path / 'labels/b.xml', annotation(box, size=(0, 0), filename='c'))
    write(tmp_path / 'labels/lost.xml', annotation(box, filename='lost.jpg'))
    found, faults = read('voc', tmp_path)
    assert [picture.path.name for picture in found] == ['a.JPG', 'c.png']
    assert len(faults.lines) == 1 and 'lost.xml: its picture, lost, is not in' in faults.lines[0]


def test_two_files_of_one_picture(tmp_path):
    voc_set(tmp_path, annotation(('dog', 1, 1, 9, 9)))
    write(tmp_path / 'labels/copy.xml', annotation(('dog', 1, 1, 9, 9)))
    _, faults = read('voc', tmp_path)
    assert len(faults.lines) == 1 and 'copy.xml' in faults.lines[0] and '000001.xml does' in faults.lines[0]


def test_rotated_boxes_keep_their_corners(tmp_path):
    """roLabelImg: centre, sides, and the angle in radians, clockwise on the screen."""
    turned = (
        '<object><type>robndbox</type><name>ship</name><robndbox><cx>100</cx><cy>50</cy><w>40</w><h>20</h>'
        '<angle>1.5707963267948966</angle></robndbox></object></annotation>'
    )
    (picture,), _ = read('voc', voc_set(tmp_path, annotation().replace('</annotation>', turned)))
    assert picture.objects[0].box == pytest.approx((90, 30, 110, 70))
    assert picture.objects[0].outlines[0][0] == pytest.approx((110, 30))  # upper left before, upper right now


@pytest.mark.parametrize('orientation', range(1, 9))
def test_boxes_that_were_drawn_on_a_picture_on_its_side_are_turned_with_it(tmp_path, orientation):
    """A red corner stays inside its box, as the decoder of training sees it."""
    import cv2
    from PIL import Image

    stored = Image.new('RGB', (60, 40), (0, 0, 0))
    stored.paste((255, 0, 0), (8, 16, 24, 32))
    exif = stored.getexif()
    exif[0x0112] = orientation
    path = tmp_path / 'images/000001.jpg'
    path.parent.mkdir()
    stored.save(path, exif=exif, quality=100, subsampling=0)
    seen = cv2.imread(str(path), cv2.IMREAD_COLOR)  # as mmcv reads it
    red = seen[..., 2] > 128
    rows, columns = red.any(1).nonzero()[0], red.any(0).nonzero()[0]
    wanted = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    swapped = orientation > 4
    box = (9, 17, 24, 32) if swapped else [wanted[0] + 1, wanted[1] + 1, *wanted[2:]]
    write(tmp_path / 'labels/000001.xml', annotation(('red', *box), size=(60, 40)))
    (picture,), faults = read('voc', tmp_path, origin=1)
    assert not faults.lines and (picture.height, picture.width) == seen.shape[:2]
    assert picture.objects[0].box == wanted
