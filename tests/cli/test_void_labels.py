"""One label is ignored everywhere, or the run does not begin."""

import pytest
import toy_runs as toy
from label_sets import STEPS, label_map, make_set, network, segments
from mmengine.config import Config
from mmengine.dataset import ConcatDataset

from qsdt_mm.cli.void_labels import check_void_labels, in_config
from qsdt_mm.errors import InputError

pytest.importorskip('mmseg')

SMALL = toy.ROOT / 'configs/segmentation/semantic-fpn_qsd-small_1xb4_shapes-64x64.py'
DEFAULT = dict(default_scope='mmseg')
EVERYWHERE = (
    'data_preprocessor.seg_pad_val',
    'decode_head.ignore_index',
    'train_dataloader.dataset.pipeline.2 (CheckLabels).ignore_index',
    'val_evaluator.ignore_index',
    'test_evaluator.ignore_index',
)


class Loop:
    """What a loop of mmengine's has."""

    def __init__(self, dataset, *metrics):
        self.dataloader = type('Loader', (), dict(dataset=dataset))
        self.evaluator = type('Evaluator', (), dict(metrics=list(metrics)))


CONFIGS = sorted((toy.ROOT / 'configs/segmentation').glob('*.py'))
BRIEF = [path for path in CONFIGS if 'e-10m' in path.stem or '1xb' in path.stem]  # others differ in widths


@pytest.mark.parametrize('config', BRIEF, ids=lambda path: path.stem)
def test_our_configs_agree(config):
    found = in_config(Config.fromfile(config))
    assert set(found.values()) == {255}
    assert all(any(place.endswith(end) for place in found) for end in EVERYWHERE)


def test_one_switch(tmp_path):
    """The small configs say it once."""
    copy = tmp_path / 'mine.py'
    text = SMALL.read_text().replace("'./", f"'{SMALL.parent}/")
    assert text.count('255') == 1
    copy.write_text(text.replace('ignore_index = 255', 'ignore_index = 11'))
    found = in_config(Config.fromfile(copy))
    assert set(found.values()) == {11} and len(found) > 6


@pytest.mark.parametrize(
    ('change', 'place'),
    [
        (dict(val_evaluator=dict(ignore_index=7)), '7 in val_evaluator.ignore_index'),
        (dict(model=dict(decode_head=dict(ignore_index=7))), '7 in model.decode_head.ignore_index'),
        (dict(model=dict(data_preprocessor=dict(seg_pad_val=0))), '0 in model.data_preprocessor.seg_pad_val'),
        (
            dict(
                model=dict(decode_head=dict(loss_decode=dict(_delete_=True, type='OhemCrossEntropy', ignore_label=7)))
            ),
            '7 in model.decode_head.loss_decode.ignore_label',
        ),
        (dict(test_evaluator=[dict(type='IoUMetric', ignore_index=7)]), '7 in test_evaluator.0 (IoUMetric)'),
    ],
)
def test_a_configuration_that_differs_in_one_place(change, place):
    cfg = Config.fromfile(SMALL)
    cfg.merge_from_dict(change)
    with pytest.raises(InputError) as caught:
        check_void_labels(cfg, network(4), {})
    said = str(caught.value)
    assert place in said and '255 in ' in said and 'more places' in said and '\n' not in said


@pytest.mark.parametrize(
    ('step', 'place'),
    [
        (dict(type='RandomRotate', prob=0.5, degree=10), 'RandomRotate.seg_pad_val'),
        (dict(type='Pad', size=(8, 8)), 'Pad.pad_val.seg'),
        (dict(type='Pad', size=(8, 8), pad_val=3), 'Pad.pad_val.seg'),
        (dict(type='RandomCrop', crop_size=(4, 4), cat_max_ratio=0.75), 'RandomCrop.ignore_index'),
        (dict(type='RandomCutOut', prob=0.5, n_holes=1, cutout_shape=(2, 2), seg_fill_in=255), 'RandomCutOut'),
        (dict(type='RandomApply', transforms=[dict(type='RandomRotate', prob=1, degree=9)]), 'RandomRotate'),
        (dict(type='GenerateEdge'), 'GenerateEdge.ignore_index'),
    ],
)
def test_built_steps_pad_with_the_same(tmp_path, step, place):
    """Where a pipeline was not written in the configuration, or left to the defaults."""
    data = segments(make_set(tmp_path, [label_map(0, 1)]), steps=[*STEPS[:2], step, STEPS[2]])
    check_void_labels(DEFAULT, network(), dict(train=Loop(data)))
    with pytest.raises(InputError) as caught:
        check_void_labels(DEFAULT, network(11, 11), dict(train=Loop(data)))
    assert place in str(caught.value) and '11 in model.decode_head.ignore_index' in str(caught.value)


def test_steps_of_a_wrapper(tmp_path):
    """Mosaics are made above the data set that reads."""
    from mmseg.datasets import MultiImageMixDataset

    data = segments(make_set(tmp_path, [label_map(0, 1)]))
    mixed = MultiImageMixDataset(ConcatDataset([data]), [dict(type='RandomMosaic', prob=1)])
    with pytest.raises(InputError, match='255 in train_dataloader, MultiImageMixDataset, RandomMosaic.seg_pad_val'):
        check_void_labels(DEFAULT, network(11, 11), dict(train=Loop(mixed)))


def test_what_has_no_effect_says_nothing(tmp_path):
    steps = [*STEPS[:2], dict(type='RandomCrop', crop_size=(4, 4)), dict(type='Resize', scale=(8, 8)), STEPS[2]]
    data = segments(make_set(tmp_path, [label_map(0, 1)]), steps=steps)
    check_void_labels(DEFAULT, network(11, 11), dict(train=Loop(data)))


def test_labels_that_a_data_set_makes(tmp_path):
    data = segments(make_set(tmp_path, [label_map(0, 1)]), reduce_zero_label=True)
    with pytest.raises(InputError, match='255 in train_dataloader, BaseSegDataset, reduce_zero_label'):
        check_void_labels(DEFAULT, network(11, 11), dict(train=Loop(data)))


def test_metrics(tmp_path):
    from mmseg.evaluation import IoUMetric

    data = segments(make_set(tmp_path, [label_map(0, 1)]))
    with pytest.raises(InputError, match='255 in val_evaluator, IoUMetric.ignore_index'):
        check_void_labels(DEFAULT, network(11, 11), dict(val=Loop(data, IoUMetric())))


def test_more_classes_than_a_byte_has():
    with pytest.raises(InputError, match='label 255 is ignored .* one of the 300 classes'):
        check_void_labels(DEFAULT, network(300), {})
    check_void_labels(DEFAULT, network(300, 65535), {})


def test_other_networks_are_left_alone():
    check_void_labels(dict(DEFAULT, val_evaluator=dict(type='IoUMetric', ignore_index=3)), network(3, kind='head'), {})


def test_the_tool_says_so_before_the_first_step(tmp_path, capsys):
    """A padded crop would have ended the run, or not."""
    make_set(tmp_path, [label_map(0, 1, 2, 11, size=(64, 64))] * 2)
    config = tmp_path / 'c.py'
    config.write_text(
        f'_base_ = {str(SMALL)!r}\n'
        f'data = dict(data_root={str(tmp_path)!r}, data_prefix=dict(img_path="images/train", '
        'seg_map_path="labels/train"))\n'
        'train_dataloader = val_dataloader = test_dataloader = dict(num_workers=0, dataset=data)\n'
        'model = dict(decode_head=dict(ignore_index=11))\n'
        'visualizer = dict(name="void")\n'
    )
    assert toy.tool('train').main([str(config), '--work-dir', str(tmp_path / 'run')]) == 2
    (line,) = toy.our_lines(capsys.readouterr().err)
    assert 'the label to ignore has to be the same everywhere, and is 11 in model.decode_head.ignore_index; 255' in line
    assert not (tmp_path / 'run').exists()
