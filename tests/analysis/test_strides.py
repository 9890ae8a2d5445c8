"""Strides that detectors' parts are told have to be those of their maps."""

import copy
from pathlib import Path

import pytest
import torch
from stock_parts import ARCH

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it
from qsdt_mm.analysis.strides import check_strides, strides_of_maps, told_strides
from qsdt_mm.errors import InputError

pytest.importorskip('mmdet')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import MODELS, DefaultScope  # noqa: E402

CONFIGS = Path(__file__).parents[2] / 'configs'
STOCK = (4, 8, 16, 32)
POINTS = dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32])
ANCHORS = dict(type='AnchorGenerator', ratios=[1.0], strides=[8, 16, 32, 64, 128])
COMMON = dict(num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1)
HEADS = {
    # head, and how many levels the neck has
    'RetinaHead': (dict(COMMON), 5),
    'FCOSHead': (dict(COMMON, strides=[8, 16, 32, 64, 128], norm_cfg=None), 5),
    'FoveaHead': (dict(COMMON, strides=[8, 16, 32, 64, 128], base_edge_list=[16, 32, 64, 128, 256]), 5),
    'RepPointsHead': (dict(COMMON, feat_channels=32, point_feat_channels=32, point_strides=[8, 16, 32, 64, 128]), 5),
    'GARetinaHead': (
        dict(COMMON, approx_anchor_generator=dict(ANCHORS, octave_base_scale=4, scales_per_octave=3))
        | dict(square_anchor_generator=dict(ANCHORS, scales=[4])),
        5,
    ),
    # Masks on grids: the head halves the first map and enlarges the last.
    'SOLOHead': (dict(COMMON, strides=[16, 16, 32, 64, 64], num_grids=[5, 4, 3, 2, 1], norm_cfg=None), 5),
    'YOLOXHead': (dict(num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1), 3),
    'RTMDetHead': (dict(COMMON, anchor_generator=POINTS, norm_cfg=dict(type='BN')), 3),
}


def build(model, scope='mmdet'):
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(model)


def backbone(out_indices=(1, 2, 3, 4), **options):
    return dict(type='qsdt_mm.SpikeDrivenTransformer', arch=ARCH, out_indices=out_indices, **options)


def one_stage(head, **options):
    """A detector of that head, whose maps have strides from 8 on."""
    settings, levels = HEADS[head]
    neck = dict(type='FPN', in_channels=[4, 8, 8, 16], out_channels=8, start_level=1, num_outs=levels)
    bbox_head = dict(type=head, **settings)
    return dict(type='SingleStageDetector', backbone=backbone(**options), neck=neck, bbox_head=bbox_head)


def two_stage(**changes):
    """mmdet's Faster R-CNN with a few channels; ``changes`` are those of the backbone."""
    model = Config.fromstring("_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'", '.py').model
    model.backbone = backbone(**changes)
    model.neck.update(in_channels=[4, 8, 8, 16], out_channels=8)
    model.rpn_head.update(in_channels=8, feat_channels=8)
    model.roi_head.bbox_roi_extractor.out_channels = 8
    model.roi_head.bbox_head.update(in_channels=8, fc_out_channels=8)
    return model


@pytest.mark.parametrize('head', HEADS)
def test_stock_heads_want_stock_strides(head):
    check_strides(build(one_stage(head, output_strides=STOCK)))
    with pytest.raises(InputError, match='bbox_head is told strides .*output_strides=.*allow_stride_mismatch') as error:
        check_strides(build(one_stage(head)))
    assert '\n' not in str(error.value)


def test_what_decodes_is_told_strides_of_its_own():
    neck = dict(type='YOLOV3Neck', num_scales=3, in_channels=[16, 8, 8], out_channels=[8, 8, 8])
    head = dict(type='YOLOV3Head', num_classes=2, in_channels=[8, 8, 8], out_channels=[8, 8, 8])
    model = dict(type='YOLOV3', backbone=backbone((2, 3, 4), output_strides=STOCK[1:]), neck=neck, bbox_head=head)
    check_strides(build(model))
    head['featmap_strides'] = (32, 16, 4)
    with pytest.raises(
        InputError, match='bbox_head is told strides 32, 16, 4, but the maps that it gets have 32, 16, 8'
    ):
        check_strides(build(model))


def test_both_stages_are_looked_at():
    check_strides(build(two_stage(output_strides=STOCK)))
    line = (
        'rpn_head is told strides 4, 8, 16, 32, 64, but the maps that it gets have 4, 8, 16, 16, 32: places would lie '
        'elsewhere in the image; give the backbone output_strides=(4, 8, 16, 32), or rpn_head the strides of the maps; '
        'for weights that were trained so: allow_stride_mismatch = True in the config'
    )
    with pytest.raises(InputError) as error:
        check_strides(build(two_stage()))
    assert str(error.value) == line
    model = two_stage()
    model.rpn_head.anchor_generator.strides = [4, 8, 16, 16, 32]
    with pytest.raises(InputError, match=r'^roi_head\.bbox_roi_extractor is told strides 4, 8, 16, 32, but'):
        check_strides(build(model))
    model.roi_head.bbox_roi_extractor.featmap_strides = [4, 8, 16, 16]
    check_strides(build(model))


def test_detectors_inside_others_are_looked_at():
    inner = two_stage()
    outer = torch.nn.Module()
    outer.detector = build(inner)
    outer.semantic_roi_extractor = build(dict(inner.roi_head.bbox_roi_extractor, featmap_strides=[8]))
    with pytest.raises(InputError, match=r'^detector\.rpn_head is told'):
        check_strides(outer)


def test_the_network_is_left_as_it_is():
    model = build(one_stage('FCOSHead', output_strides=STOCK)).train()
    model.neck.eval()
    state, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    random = torch.get_rng_state()
    check_strides(model)
    assert torch.equal(torch.get_rng_state(), random) and [m.training for m in model.modules()] == flags
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_other_networks_are_not_run(monkeypatch):
    head = dict(type='LinearClsHead', num_classes=2, in_channels=512)
    network = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18), head=head)
    classifier = build(network, 'mmpretrain')
    monkeypatch.setattr(classifier, 'extract_feat', None)
    check_strides(classifier)
    model = build(one_stage('RetinaHead'))
    monkeypatch.setattr(model, 'extract_feat', lambda images, texts: None)  # takes something else
    assert strides_of_maps(model) is None
    check_strides(model)


def small(config):
    names = ('qsd-small', 'r18', 'retinanet_qsd-15m')
    return (
        config.stem if any(name in config.stem for name in names) else pytest.param(config.stem, marks=pytest.mark.slow)
    )


@pytest.mark.parametrize('name', [small(path) for path in sorted((CONFIGS / 'detection').glob('*.py'))])
def test_shipped_configs_fit(name):
    """Without values: on the meta device."""
    cfg = Config.fromfile(CONFIGS / 'detection' / f'{name}.py')
    assert 'allow_stride_mismatch' not in cfg
    with torch.device('meta'):
        model = build(cfg.model)
        assert any(told_strides(model)) and strides_of_maps(model)
        check_strides(model)
