"""COCO files as other people write them, through the tools: refused before the first step, or said and right."""

import json
import pickle

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy
from coco_runs import CocoRuns
from PIL import Image

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it

pytest.importorskip('mmdet')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import DATASETS, DefaultScope  # noqa: E402

from qsdt_mm.cli.annotation_checks import check_annotation_files  # noqa: E402
from qsdt_mm.cli.image_sizes import check_image_sizes  # noqa: E402
from qsdt_mm.datasets import coco_files  # noqa: E402
from qsdt_mm.datasets.coco_files import as_configured, reading_once  # noqa: E402
from qsdt_mm.datasets.labels import check_samples  # noqa: E402
from qsdt_mm.errors import InputError  # noqa: E402


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def runs(tmp_path):
    return CocoRuns(tmp_path / 'coco')


def said(capsys):
    """Our lines, without the name of the tool."""
    text = capsys.readouterr().err
    assert 'Traceback' not in text, text
    return [line.partition(': ')[2] for line in text.splitlines() if line.startswith(('train.py: ', 'test.py: '))]


def refused(runs, capsys, tool, *words, more=''):
    """Run a tool that has to refuse in a line; return the line."""
    capsys.readouterr()
    before = toy.files(runs.root)
    status, work_dir = runs.tool(tool, *words, more=more)
    line = said(capsys)[-1]
    assert status == 2 and line.startswith('error: '), line
    assert not work_dir.exists() and before.items() <= toy.files(runs.root).items()
    return line


def every(function):
    def change(held):
        for row in held['annotations']:
            function(row)

    return change


def to_corners(row):
    x, y, w, h = row['bbox']
    row['bbox'] = [x, y, x + w, y + h]
    row.pop('segmentation', None)


def to_fractions(row):
    row['bbox'] = [value / side for value, side in zip(row['bbox'], (128, 96, 128, 96))]


@pytest.mark.parametrize(
    ('change', 'hint'),
    [
        (every(to_corners), 'nearly all fit as corners'),
        (every(to_fractions), 'fractions of the image'),
        (every(lambda row: row.pop('segmentation')), 'has no outlines (segmentation) for its 6 boxes'),
        (every(lambda row: row.update(segmentation=[[1, 2, 30, 40]])), '6 of less than three points'),
        (every(lambda row: row.update(iscrowd=1)), 'all 6 annotations have iscrowd=1'),
        (every(lambda row: row.update(ignore=1)), 'none of 6 annotations can be learned from'),
        (lambda held: held.update(annotations=[]), 'has no annotations: there is nothing to learn'),
        (lambda held: held['categories'][1].update(name='blue'), "no category 'red'"),
    ],
)
@pytest.mark.parametrize('name', ['set.json', 'val.json'])
def test_refused_before_anything_is_built(runs, change, hint, name):
    runs.change(change, name)
    if name == 'val.json' and 'learn' in hint:
        return  # what cannot be learned can be scored
    with pytest.raises(InputError) as caught:
        check_annotation_files(Config.fromfile(runs.config()), 'train', 'val')
    assert hint in str(caught.value) and str(runs.root / name) in str(caught.value)


def test_refused_by_the_tool(runs, capsys):
    runs.change(every(to_corners))
    assert 'corners' in refused(runs, capsys, 'train')


def test_left_out_with_a_count(runs, capsys):
    """One annotation without an outline used to end a run, and the absence of iscrowd a validation."""

    def change(held):
        del held['annotations'][0]['segmentation']
        held['annotations'][2]['segmentation'] = [[1, 2, 30, 40]]
        held['annotations'][3]['bbox'][2] = 0
        del held['annotations'][5]['iscrowd']

    runs.change(change, 'set.json', 'val.json')
    assert runs.tool('train')[0] == 0
    lines = said(capsys)
    for name in ('set.json', 'val.json'):
        one, two = [line for line in lines if str(runs.root / name) in line]
        assert one.startswith('warning: ') and '1 of 6 boxes are left out' in one
        assert '2 of 6 annotations are left out for want of an outline' in two


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A test set without annotations, and a checkpoint."""
    runs = CocoRuns(tmp_path_factory.mktemp('trained'))
    no_validation = 'val_cfg = val_dataloader = val_evaluator = None'
    status, work_dir = runs.tool('train', more=no_validation)
    assert status == 0
    runs.change(lambda held: held.pop('annotations'), 'val.json')
    return runs, work_dir / 'epoch_1.pth'


def test_a_test_file_without_annotations(trained, capsys):
    runs, checkpoint = trained
    line = refused(runs, capsys, 'test', checkpoint)
    assert 'val.json has no annotation to compare results with' in line and '--out PRED.pkl' in line
    out, scores = runs.root / 'predictions.pkl', runs.root / 'scores.json'
    assert runs.tool('test', checkpoint, '--out', out, '--json', scores)[0] == 0
    assert f'{runs.root}/val.json has no annotations: nothing is scored; results go to {out}' in said(capsys)
    assert [one['img_id'] for one in pickle.loads(out.read_bytes())] == [0, 1, 2, 3]
    assert json.loads(scores.read_text())['metrics'] == {}


@pytest.mark.parametrize('annotations', [None, pytest.param([], marks=pytest.mark.slow)])
def test_results_are_written_and_nothing_is_scored(trained, capsys, annotations):
    runs, checkpoint = trained
    prefix = runs.root / f'results{annotations}' / 'mine'
    runs.change(lambda held: held.update(annotations=annotations), 'val.json')
    more = f'test_evaluator.update(format_only=True, outfile_prefix={str(prefix)!r})'
    assert runs.tool('test', checkpoint, more=more)[0] == 0
    assert f'nothing is scored; results go to {prefix}.*.json' in said(capsys)[0]
    for kind in ('bbox', 'segm'):
        held = json.loads(prefix.with_name(f'mine.{kind}.json').read_text())
        assert {row['image_id'] for row in held} <= {0, 1, 2, 3}


def turned(path, orientation, side=(128, 96)):
    """A photo whose pixels lie as stored, and that EXIF turns."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((side[1], side[0], 3), np.uint8)).save(path, exif=exif)


def photos(runs, orientation, said_size=(128, 96), name='3.png', stored=(128, 96)):
    """A set in which one image is a turned photo."""

    def change(held):
        width, height = said_size
        held['images'][3].update(file_name=name, width=width, height=height)

    (runs.root / name).parent.mkdir(exist_ok=True)
    turned(runs.root / name, orientation, stored)
    runs.change(change)


def built(runs, more=''):
    cfg = Config.fromfile(runs.config(more))
    cfg.train_dataloader.dataset.filter_cfg = None
    return DATASETS.build(cfg.train_dataloader.dataset)


@pytest.mark.parametrize('name', ['3.jpg', '3.png', 'a/b/3.jpg'])
def test_turned_photos(runs, capsys, name):
    (runs.root / 'a').mkdir()
    for orientation in (6, 8):
        photos(runs, orientation, name=name)
        with pytest.raises(InputError) as caught:
            check_image_sizes(built(runs))
        text = str(caught.value)
        assert name in text and 'has 128 x 96 pixels: its annotations say 96 x 128' in text
        assert "LoadImageFromFile(color_type='color_ignore_orientation')" in text
    unturned = "train_dataloader['dataset'].update(pipeline=[dict(type='LoadImageFromFile', color_type={!r})])"
    assert check_image_sizes(built(runs, unturned.format('color_ignore_orientation'))) == []
    photos(runs, 6, (96, 128), name=name)
    assert check_image_sizes(built(runs)) == []
    with pytest.raises(InputError, match=r"color_type='color'"):
        check_image_sizes(built(runs, unturned.format('unchanged')))
    assert 'ignore_orientation' in refused(runs_of_turned(runs, name), capsys, 'train')


def runs_of_turned(runs, name):
    photos(runs, 6, name=name)
    runs.change(lambda held: held['annotations'].append({**held['annotations'][0], 'id': 99, 'image_id': 3}))
    return runs


def test_a_turned_photo_that_was_not_looked_at_before(runs):
    photos(runs, 6)
    dataset = built(runs)
    check_samples(dataset, torch.nn.Identity(), 'training')
    assert dataset[2] is not None
    with pytest.raises(InputError, match=r"3\.png has 128 x 96 .*color_type='color_ignore_orientation'"):
        dataset[3]


def test_photos_whose_size_does_not_tell(runs):
    for orientation, side in ((3, (128, 96)), (2, (128, 96)), (6, (64, 64))):
        photos(runs, orientation, side, stored=side)
        (remark,) = check_image_sizes(built(runs))
        assert '1 photos' in remark and '3.png' in remark and "color_type='color_ignore_orientation'" in remark


def test_sizes_that_are_not_the_images(runs):
    cv2.imwrite(str(runs.root / '2.png'), np.zeros((80, 128, 3), np.uint8))
    with pytest.raises(InputError, match=r'2\.png has 80 x 128 pixels: its annotations say 96 x 128$'):
        check_image_sizes(built(runs))
    cv2.imwrite(str(runs.root / '2.png'), np.zeros((128, 96, 3), np.uint8))
    with pytest.raises(InputError, match='are height and width exchanged'):
        check_image_sizes(built(runs))
    (runs.root / '2.png').unlink()
    with pytest.raises(InputError, match=r'2\.png: No such file'):
        check_image_sizes(built(runs))


WRAPPED = {
    'RepeatDataset': "dict(type='RepeatDataset', times=2, dataset=inner)",
    'ConcatDataset': "dict(type='ConcatDataset', datasets=[inner, dict(inner, ann_file='val.json')])",
    'ClassBalancedDataset': "dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=inner)",
    'MultiImageMixDataset': "dict(type='MultiImageMixDataset', dataset=inner, pipeline=[])",
    'nested': "dict(type='RepeatDataset', times=1, dataset=dict(type='ConcatDataset', datasets=[inner]))",
    'DeepFashionDataset': "dict(inner, type='DeepFashionDataset')",
}
WRAP = """
steps = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]
inner = dict(type='CocoDataset', ann_file='set.json', pipeline=steps, **data)
train_dataloader['dataset'] = dict(_delete_=True, **{})
"""


@pytest.mark.parametrize('name', WRAPPED)
def test_wrapped_data_sets_get_what_was_parsed(runs, name, monkeypatch):
    from mmdet.datasets import CocoDataset

    path = runs.config(WRAP.format(WRAPPED[name]))
    cfg = Config.fromfile(path)
    stock = DATASETS.build(cfg.train_dataloader.dataset)
    check_annotation_files(cfg, 'train')
    with monkeypatch.context() as patched:
        patched.setattr('pycocotools.coco.json', None)  # who parses again, fails
        dataset = as_configured(DATASETS.build(reading_once(cfg.train_dataloader.dataset)))
    assert coco_files._PARSED == {}
    assert type(dataset) is type(stock) and len(dataset) == len(stock)
    parts = [part for part in coco_files.parts_of(dataset) if isinstance(part, CocoDataset)]
    assert {type(part).__module__.partition('.')[0] for part in parts} == {'mmdet'}
    assert [part.get_data_info(1) for part in parts] == [
        part.get_data_info(1) for part in coco_files.parts_of(stock) if isinstance(part, CocoDataset)
    ]
    assert len(pickle.dumps(dataset)) > 100  # for workers that are started anew
    runs.change(every(to_corners))
    with pytest.raises(InputError, match='corners'):
        check_annotation_files(Config.fromfile(path), 'train')


def test_a_file_that_changed_is_read_again(runs):
    cfg = Config.fromfile(runs.config())
    check_annotation_files(cfg, 'train')
    runs.change(lambda held: held['images'].pop())
    assert len(DATASETS.build(reading_once(cfg.train_dataloader.dataset))) == 3
    coco_files.forget()


def test_files_of_one_run_that_do_not_fit(runs):
    cfg = Config.fromfile(runs.config())
    runs.change(lambda held: held['categories'].reverse(), 'val.json')
    with pytest.raises(InputError, match=r"'red' is label 1 in .*set.json and label 0 in .*val.json"):
        check_annotation_files(cfg, 'train', 'val')
    cfg.val_evaluator.ann_file = str(runs.root / 'set.json')
    runs.change(lambda held: held['images'].append(dict(held['images'][0], id=77)), 'val.json')
    with pytest.raises(InputError, match=r'lacks 1 images of .*val.json, which the results are of \(id 77\)'):
        check_annotation_files(cfg, 'val')


def test_relative_paths_and_lists_of_classes(runs, monkeypatch):
    monkeypatch.chdir(runs.root.parent)
    (runs.root.parent / 'names.txt').write_text('green\nred\n')
    cfg = Config.fromfile(runs.config())
    cfg.train_dataloader.dataset.update(data_root='coco', ann_file='./set.json', metainfo=dict(classes='names.txt'))
    assert check_annotation_files(cfg, 'train').remarks == []
    (runs.root.parent / 'names.txt').write_text('green\nblue\n')
    with pytest.raises(InputError, match=r"coco/set.json has no category 'blue'.* green, blue; .* green, red"):
        check_annotation_files(cfg, 'train')


def test_a_runner_that_reads_files_by_itself(runs):
    """Nothing is left out there, and mmdet would stop at the one annotation in the middle of an epoch."""
    runs.change(lambda held: held['annotations'][0].pop('segmentation'))
    cfg = Config.fromfile(runs.config("runner_type = 'Runner'"))
    with pytest.raises(InputError, match=r'set\.json has annotations without outlines.*runner_type=Runner'):
        check_annotation_files(cfg, 'train')
