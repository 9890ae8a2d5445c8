"""tools/dataset_converters/to_coco.py: three formats, one result that mmdet reads; faults write nothing."""

import json

import numpy as np
import pytest
import toy_runs as toy
from annotation_files import save_picture, write

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it
from qsdt_mm.cli.annotation_checks import check_coco_file

TOOL = 'dataset_converters/to_coco'


def run(*words):
    return toy.tool(TOOL).main([*map(str, words)])


def voc_object(name, *box, difficult=0):
    sides = ''.join(f'<{k}>{v}</{k}>' for k, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), box))
    return f'<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>'


@pytest.fixture
def same_data(tmp_path):
    """One set of pictures, annotated in all three formats: a dog, and a cat in every second picture."""
    for i in range(6):
        size = (40 + 2 * i, 30)
        save_picture(tmp_path / f'JPEGImages/{i}.jpg', size)
        boxes = [('dog', 4, 6, 24, 26), ('cat', 10, 0, 30, 30)][: 1 + i % 2]
        objects = ''.join(voc_object(name, x + 1, y + 1, u, v) for name, x, y, u, v in boxes)
        write(tmp_path / f'Annotations/{i}.xml', f'<annotation><filename>{i}.jpg</filename>{objects}</annotation>')
        rows = [
            f'{("dog", "cat").index(name)} {(x + u) / 2 / size[0]} {(y + v) / 60} {(u - x) / size[0]} {(v - y) / 30}'
            for name, x, y, u, v in boxes
        ]
        write(tmp_path / f'labels/{i}.txt', '\n'.join(rows))
        shapes = [dict(label=n, points=[[x, y], [u, v]], shape_type='rectangle') for n, x, y, u, v in boxes]
        write(tmp_path / f'json/{i}.json', json.dumps(dict(shapes=shapes, imagePath=f'../JPEGImages/{i}.jpg')))
    write(tmp_path / 'labels/classes.txt', 'dog\ncat\n')
    return tmp_path


def result(folder, part='train'):
    check_coco_file(folder / f'instances_{part}.json')
    return json.loads((folder / f'instances_{part}.json').read_text())


def test_three_formats_one_result(same_data, capsys):
    images, names = same_data / 'JPEGImages', same_data / 'labels/classes.txt'
    for kind, folder in (('voc', 'Annotations'), ('yolo', 'labels'), ('labelme', 'json')):
        words = (kind, same_data / folder, '--images', images, '--classes', names, '--out', same_data / 'out' / kind)
        assert run(*words) == 0
        assert "in the config: classes = ('dog', 'cat')" in capsys.readouterr().out
    voc, yolo, labelme = (result(same_data / 'out' / kind) for kind in ('voc', 'yolo', 'labelme'))
    assert voc == yolo == labelme
    assert voc['categories'] == [dict(id=1, name='dog'), dict(id=2, name='cat')]
    assert voc['images'][1] == dict(id=2, file_name='1.jpg', width=42, height=30)
    cat = dict(id=3, image_id=2, category_id=2, bbox=[10, 0, 20, 30], area=600, iscrowd=0)
    assert len(voc['annotations']) == 9 and voc['annotations'][2] == cat


def test_pictures_are_found_beside_annotations(same_data, capsys):
    """VOC's JPEGImages; and classes in alphabetical order where nobody says another."""
    assert run('voc', same_data / 'Annotations', '--out', same_data / 'out') == 0
    assert "classes = ('cat', 'dog')" in capsys.readouterr().out
    assert [category['name'] for category in result(same_data / 'out')['categories']] == ['cat', 'dog']


def test_parts_are_drawn_by_the_seed_and_share_nothing(same_data, capsys):
    parts = {}
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        words = ('--out', same_data / name, '--val', 0.34, '--seed', seed)
        assert run('voc', same_data / 'Annotations', *words) == 0
        parts[name] = [{i['file_name'] for i in result(same_data / name, part)['images']} for part in ('train', 'val')]
        assert parts[name][0] | parts[name][1] == {f'{i}.jpg' for i in range(6)} and len(parts[name][1]) == 2
        assert not parts[name][0] & parts[name][1]
    assert parts['a'] == parts['b'] != parts['c']


def test_lists_of_pictures(same_data, capsys):
    """As in VOC's ImageSets: names, perhaps with a second column; one that is not there is a fault."""
    write(same_data / 'val.txt', '1  1\n3 -1\n')
    words = (
        'voc',
        same_data / 'Annotations',
        '--part',
        'val',
        '--out',
        same_data / 'out',
        '--list',
        same_data / 'val.txt',
    )
    assert run(*words) == 0
    assert [image['file_name'] for image in result(same_data / 'out', 'val')['images']] == ['1.jpg', '3.jpg']
    write(same_data / 'val.txt', './JPEGImages/1.jpg\nC:\\photos\\3.jpg\n\n')
    assert run(*words, '--overwrite') == 0
    assert [image['file_name'] for image in result(same_data / 'out', 'val')['images']] == ['1.jpg', '3.jpg']
    write(same_data / 'val.txt', '1\n77\n')
    assert run(*words, '--overwrite') == 2
    assert '77 is listed, and has no annotations' in capsys.readouterr().err


@pytest.mark.parametrize(('how', 'crowd'), [('ignore', [0, 1]), ('keep', [0, 0]), ('drop', [0])])
def test_difficult_objects(tmp_path, capsys, how, crowd):
    save_picture(tmp_path / 'JPEGImages/a.png', (30, 30))
    objects = voc_object('dog', 1, 1, 9, 9) + voc_object('dog', 3, 3, 19, 19, difficult=1)
    write(tmp_path / 'Annotations/a.xml', f'<annotation>{objects}</annotation>')
    assert run('voc', tmp_path / 'Annotations', '--out', tmp_path / 'out', '--difficult', how) == 0
    assert [row['iscrowd'] for row in result(tmp_path / 'out')['annotations']] == crowd
    assert 'difficult: 1, ' in capsys.readouterr().out


def test_outlines_become_masks(tmp_path, capsys):
    """A polygon, a box beside it, and a painted mask joined to a polygon: areas as pycocotools counts them."""
    import base64
    import io

    from PIL import Image
    from pycocotools.coco import COCO

    save_picture(tmp_path / 'a.jpg', (40, 30))
    data = io.BytesIO()
    Image.fromarray(np.eye(5, dtype=np.uint8)).save(data, 'png')
    leaf = dict(label='leaf', group_id=1)
    shapes = [
        dict(label='tip', points=[[0, 0], [20, 0], [0, 10]], shape_type='polygon'),
        dict(label='box', points=[[10, 10], [20, 25]], shape_type='rectangle'),
        dict(leaf, points=[[30, 20], [34, 24]], shape_type='mask', mask=base64.b64encode(data.getvalue()).decode()),
        dict(leaf, points=[[36, 2], [40, 2], [40, 6], [36, 6]], shape_type='polygon'),
    ]
    write(tmp_path / 'a.json', json.dumps(dict(shapes=shapes, imagePath='a.jpg')))
    out = tmp_path.parent / f'{tmp_path.name}-out'
    assert run('labelme', tmp_path, '--out', out) == 0
    assert 'outlines: 2; 1 plain boxes stand as their own' in capsys.readouterr().out
    tip, box, leaf = (row for row in result(out)['annotations'])
    assert (tip['area'], tip['segmentation']) == (100, [[0, 0, 20, 0, 0, 10]])
    assert (box['area'], box['bbox']) == (150, [10, 10, 10, 15])
    coco = COCO(str(out / 'instances_train.json'))
    mask = coco.annToMask(leaf)
    assert mask.shape == (30, 40) and leaf['area'] == mask.sum() == 5 + 16 and leaf['bbox'] == [30, 2, 10, 23]
    assert np.array_equal(mask[20:25, 30:35], np.eye(5))


def test_mmdet_reads_the_result(same_data):
    pytest.importorskip('mmdet')
    from mmdet.datasets import CocoDataset

    write(same_data / 'Annotations/0.xml', f'<annotation>{voc_object("dog", 1, 1, 40, 30, difficult=1)}</annotation>')
    assert run('voc', same_data / 'Annotations', '--out', same_data / 'out') == 0
    data = CocoDataset(
        data_root=str(same_data),
        ann_file='out/instances_train.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=('cat', 'dog')),
        pipeline=[],
    )
    first, second = (data.get_data_info(i)['instances'] for i in (0, 1))
    assert [(row['bbox'], row['ignore_flag']) for row in first] == [([0, 0, 40, 30], 1)]
    assert [(row['bbox'], row['bbox_label'], row['ignore_flag']) for row in second] == [
        ([4, 6, 24, 26], 1, 0),
        ([10, 0, 30, 30], 0, 0),
    ]


def test_what_is_there_stays_and_faults_write_nothing(same_data, capsys):
    words = ('voc', same_data / 'Annotations', '--out', same_data / 'out', '--val', 0.5)
    write(same_data / 'out/instances_val.json', 'mine')
    assert run(*words) == 2
    write(same_data / 'Annotations/3.xml', '<annotation>')
    write(same_data / 'Annotations/4.xml', f'<annotation>\n{voc_object("dog", 0, 0, 99, 9)}</annotation>')
    assert run(*words, '--overwrite') == 2
    out, err = capsys.readouterr()
    there, faults = toy.our_lines(err, 'to_coco.py')
    assert 'instances_val.json exists: name another folder or part, or give --overwrite' in there
    assert '3.xml, line 1: no XML' in faults and '(and 1 more fault)' in faults
    assert '4.xml, line 2: box from' in out
    assert [path.name for path in (same_data / 'out').iterdir()] == ['instances_val.json']
    assert (same_data / 'out/instances_val.json').read_text() == 'mine'


@pytest.mark.parametrize(
    ('words', 'what'),
    [
        (('voc', '{root}/absent'), 'absent is no folder'),
        (('voc', '{root}/Annotations', '--images', '{root}/absent'), 'absent is no folder'),
        (('labelme', '{root}/labels'), 'holds no file *.json'),
        (('yolo', '{root}/Annotations'), 'no list of classes near'),
        (('voc', '{root}/Annotations', '--classes', '{root}/absent.txt'), 'absent.txt: No such file'),
        (('voc', '{root}/Annotations', '--classes', '{root}/dogs.txt'), "'cat' is not among the classes"),
        (('labelme', '{root}', '--out', '{root}/inside'), 'where all JSON files are read'),
    ],
)
def test_bad_input_is_one_line(same_data, capsys, words, what):
    write(same_data / 'dogs.txt', 'dog\n')
    words = [word.format(root=same_data) for word in words]
    assert run(*words, *([] if '--out' in words else ['--out', same_data / 'out'])) == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'to_coco.py')
    assert what in line and not (same_data / 'out').exists()


@pytest.mark.parametrize(
    'words',
    [
        ('voc', '--val', '0'),
        ('voc', '--val', '1.5'),
        ('voc', '--part', 'a/b'),
        ('voc', '--val', '0.5', '--part', 'val'),
        ('pascal',),
    ],
)
def test_bad_options(capsys, words):
    with pytest.raises(SystemExit) as caught:
        run(*words[:1], 'x', '--out', 'y', *words[1:])
    assert caught.value.code == 2 and capsys.readouterr().err.count('\n') == 1
