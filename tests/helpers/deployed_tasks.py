"""A small segmenter and a small detector to be deployed, and samples for them."""

from importlib import import_module

import pytest
import torch

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
BACKBONE = dict(
    type='SpikeDrivenTransformer',
    arch=dict(family='qsd', widths=(4, 8, 8, 8, 8), depths=(0, 0, 0, 1, 0), num_heads=2),
    weight_bits=4,
)


def segmenter():
    pytest.importorskip('mmseg')
    return 'mmseg', dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=True),
        backbone=dict(BACKBONE, out_indices=(1, 2, 3, 4)),
        neck=dict(type='SpikeFPN', in_channels=[8, 8, 8, 8], out_channels=8, num_outs=4),
        decode_head=dict(
            type='SpikeFPNHead',
            in_channels=[8] * 4,
            in_index=[0, 1, 2, 3],
            feature_strides=[8, 16, 32, 32],
            channels=8,
            num_classes=3,
            norm_cfg=dict(type='BN'),
        ),
        test_cfg=dict(mode='whole'),
    )


def detector():
    pytest.importorskip('mmdet')
    return 'mmdet', dict(
        type='RetinaNet',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=MEAN, std=STD, bgr_to_rgb=True, pad_size_divisor=32),
        backbone=dict(BACKBONE, out_indices=(2, 3, 4)),
        neck=dict(type='SpikeFPN', in_channels=[8, 8, 8], out_channels=8, num_outs=3),
        bbox_head=dict(
            type='SpikeRetinaHead',
            num_classes=2,
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            norm_cfg=dict(type='BN'),
            anchor_generator=dict(
                type='AnchorGenerator', scales=[1], ratios=[1.0], strides=[16, 32, 32], base_sizes=[16, 32, 32]
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        ),
        test_cfg=dict(
            nms_pre=50, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=20
        ),
    )


def samples(library, images):
    if library == 'mmseg':
        from mmseg.structures import SegDataSample as Sample
    else:
        from mmdet.structures import DetDataSample as Sample
    size = tuple(images.shape[-2:])
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size, scale_factor=(1.0, 1.0), batch_input_shape=size)
    return [Sample(metainfo=dict(meta, img_id=i, img_path='')) for i in range(len(images))]


def built(make):
    """Library, configuration and model of :func:`segmenter` or :func:`detector`."""
    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS, DefaultScope

    library, config = make()
    import_module(f'{library}.models')
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope(library):
        return library, config, MODELS.build(ConfigDict(config)).eval()
