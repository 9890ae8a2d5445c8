"""Networks of the three libraries with our small backbone and a stock part, whose layers are outside units."""

from types import SimpleNamespace

import torch
from mmengine.registry import DefaultScope
from torch import nn

from qsdt_mm import SpikeDrivenTransformer

ARCH = dict(family='qsd', widths=(4, 4, 8, 8, 16), depths=(1, 1, 1, 1, 1), num_heads=2)
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def backbone(**options):
    return dict(type='qsdt_mm.SpikeDrivenTransformer', arch=dict(ARCH), **options)


UPER = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor'),
    backbone=backbone(out_indices=(1, 2, 3, 4)),
    decode_head=dict(
        type='UPerHead', in_channels=[4, 8, 8, 16], in_index=[0, 1, 2, 3], channels=8, num_classes=5,
        norm_cfg=dict(type='BN'),
    ),
    auxiliary_head=dict(
        type='FCNHead', in_channels=8, in_index=2, channels=8, num_classes=5, norm_cfg=dict(type='BN')
    ),
    test_cfg=dict(mode='whole'),
)  # fmt: skip
RETINA = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor'),
    backbone=backbone(out_indices=(2, 3, 4)),
    neck=dict(type='FPN', in_channels=[8, 8, 16], out_channels=8, num_outs=3),
    bbox_head=dict(
        type='qsdt_mm.SpikeRetinaHead', weight_bits=4, num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=[8, 16, 32]
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
    ),
    test_cfg=dict(nms_pre=10, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5),
)  # fmt: skip
LINEAR = dict(
    type='ImageClassifier',
    backbone=backbone(),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=7, in_channels=16),
)
CASES = {
    'UPerHead': SimpleNamespace(scope='mmseg', config=UPER, part='decode_head.', never='auxiliary_head.'),
    'FPN': SimpleNamespace(scope='mmdet', config=RETINA, part='neck.', never='loss'),
    'LinearClsHead': SimpleNamespace(scope='mmpretrain', config=LINEAR, part='head.', never='loss'),
    'conv': SimpleNamespace(scope=None, part='1', never='loss'),
}


class First(nn.Module):
    def forward(self, features):
        return features[0]


def build(case):
    """The network of a case, in evaluation mode, with norms as after some training."""
    import pytest

    torch.manual_seed(0)
    if case.scope is None:
        model = nn.Sequential(nn.Sequential(SpikeDrivenTransformer(dict(ARCH)), First()), nn.Conv2d(16, 5, 1))
    else:
        pytest.importorskip(case.scope)
        from mmengine.registry import MODELS, init_default_scope

        init_default_scope(case.scope)
        with DefaultScope.overwrite_default_scope(case.scope):
            model = MODELS.build(case.config)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.bias, -0.2, 0.4)
    return model.eval()


def stock_layers(model, case):
    """Names of the stock part's layers."""
    return {name for name, module in model.named_modules() if isinstance(module, LAYERS) and name.startswith(case.part)}
