"""Checks of data before a run and of each sample in it."""

import copy
import importlib.util
import json
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy
from coco_set import make_coco_set
from mmengine.dataset import BaseDataset

from qsdt_mm.cli.annotation_checks import check_coco_file, check_list_file
from qsdt_mm.cli.class_checks import check_same_classes
from qsdt_mm.cli.data_checks import try_sample
from qsdt_mm.datasets.labels import Limits, check_samples
from qsdt_mm.errors import InputError


@pytest.fixture
def coco(tmp_path):
    make_coco_set(tmp_path)
    return tmp_path / 'set.json'


def test_a_whole_coco_file_passes(coco):
    check_coco_file(coco, ['green', 'red'])


@pytest.mark.parametrize(
    ('part', 'key', 'value', 'hint'),
    [
        ('annotations', 'image_id', 99, 'annotations[0] has image_id 99, which is not there'),
        ('annotations', 'category_id', 0, 'annotations[0] has category_id 0, which is not there'),
        ('annotations', 'bbox', [1, 2, 3], 'expected four numbers'),
        ('annotations', 'area', None, 'annotations[0] has area None'),
        ('annotations', 'segmentation', [1, 2], 'expected polygons or a mask'),
        ('annotations', 'segmentation', dict(size=[9, 9], counts=''), 'its image has [96, 128]'),
        ('annotations', 'iscrowd', 'no', 'iscrowd'),
        ('annotations', 'id', 2, 'annotations[1] has id 2, which another has too'),
        ('images', 'width', 12.5, 'images[0] has width 12.5'),
        ('images', 'file_name', '', 'file_name'),
        ('images', 'id', None, 'images[0] has id None'),
        ('categories', 'name', 5, 'categories[0] has name 5'),
        ('categories', 'name', 'blue', "no category 'green'"),
    ],
)
def test_what_is_wrong_is_named(coco, part, key, value, hint):
    held = json.loads(coco.read_text())
    held[part][0][key] = value
    coco.write_text(json.dumps(held))
    with pytest.raises(InputError) as caught:
        check_coco_file(coco, ['green', 'red'])
    assert hint in str(caught.value) and str(coco) in str(caught.value)


@pytest.mark.parametrize(
    ('text', 'hint'),
    [
        ('', 'lists no image'),
        ('a.png 0\nb.png\n', 'line 2: expected "path label", got \'b.png\''),
        ('a b.png 0\nb.png x\n', 'line 2'),
        ('a.png -1\n', 'line 1'),
        (None, 'No such file'),
    ],
)
def test_lists_of_images(tmp_path, text, hint):
    path = tmp_path / 'list.txt'
    path.write_text('a b.png 0\nc.png 12\n')
    check_list_file(path)
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError) as caught:
        check_list_file(path)
    assert hint in str(caught.value) and str(path) in str(caught.value)


class Pictures(BaseDataset):
    """Three samples of two classes; the pipeline draws."""

    METAINFO = dict(classes=('cat', 'dog'))

    def load_data_list(self):
        return [dict(img_path=f'{i}.png', label=i) for i in range(3)]


def draw(data):
    return dict(data, drawn=[random.random(), np.random.rand(), float(torch.rand(1))])


def fail_on_one(data):
    if data['label'] == 1:
        raise KeyError('boxes')
    return data


class Network(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = torch.nn.Linear(1, 1)
        self.head.num_classes = num_classes


def test_limits_of_heads():
    assert Limits.of(Network(3)).num_classes == 3 and Limits.of(torch.nn.Linear(1, 1)).num_classes is None


def test_more_classes_than_the_network(tmp_path):
    check_samples(Pictures(), Network(2), 'training')
    with pytest.raises(InputError, match=r'training data have 2 classes .*num_classes=1'):
        check_samples(Pictures(), Network(1), 'training')


def test_an_error_in_a_pipeline_names_the_file():
    data = Pictures(pipeline=[fail_on_one])
    check_samples(data, Network(2), 'training')
    assert data[0]['label'] == 0
    with pytest.raises(InputError, match=r'^1\.png: function: KeyError: boxes$'):
        data[1]
    first = data.pipeline
    check_samples(data, Network(2), 'training')
    assert data.pipeline is first  # once is enough


def test_a_label_map_of_another_size():
    def load(data):
        return dict(data, ori_shape=(4, 6), gt_seg_map=np.zeros((4, 5) if data['label'] else (4, 6)))

    data = Pictures(pipeline=[load])
    check_samples(data, Network(2), 'training')
    assert data[0]['ori_shape'] == (4, 6)
    with pytest.raises(InputError, match=r'1\.png has the shape \(4, 5\): its image has 4 x 6 pixels'):
        data[1]


def test_trying_a_sample_draws_nothing():
    data, network = Pictures(pipeline=[draw]), Network(2)
    check_samples(data, network, 'training')
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = copy.deepcopy(data[0]['drawn'])
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    try_sample(data, network)
    assert data[0]['drawn'] == expected


def test_a_pipeline_that_does_not_pack():
    """Refused for the networks of the three libraries; others may take what they like."""
    preprocessor = pytest.importorskip('mmpretrain.models').ClsDataPreprocessor()
    for steps, refused in (([], True), ([lambda data: dict(data, inputs=1)], False)):
        data = Pictures(pipeline=steps)
        network = Network(2)
        check_samples(data, network, 'training')
        try_sample(data, network)
        network.data_preprocessor = preprocessor
        if not refused:
            try_sample(data, network)
            continue
        with pytest.raises(InputError, match="leaves no 'inputs' for the network: its last step has to be PackInputs"):
            try_sample(data, network)


def test_labels_that_mean_two_things():
    other = Pictures(metainfo=dict(classes=('cat', 'eel')))
    check_same_classes(Pictures(), Pictures(metainfo=dict(classes=('cat',))))
    with pytest.raises(InputError, match="label 1 is 'dog' in the training data and 'eel'"):
        check_same_classes(Pictures(), other)


def test_a_broken_file_met_by_a_worker(tmp_path, capsys):
    """In the middle of an epoch, in a process of its own: still one line that names the file."""
    pytest.importorskip('mmpretrain')
    spec = importlib.util.spec_from_file_location('broken_data', Path(__file__).with_name('test_broken_data.py'))
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    folder = tmp_path / 'classes'
    broken.prepare(folder, 'classes')
    path = folder / 'data/dog/1.png'
    path.write_bytes(path.read_bytes()[:20])
    config = folder / 'c.py'
    config.write_text(f'{config.read_text()}\ntrain_dataloader.update(num_workers=1, persistent_workers=False)\n')
    assert toy.tool('train').main([str(config), '--work-dir', str(tmp_path / 'run')]) == 2
    lines = toy.our_lines(capsys.readouterr().err)
    assert len(lines) == 1 and str(path) in lines[0] and cv2.imread(str(path)) is None
