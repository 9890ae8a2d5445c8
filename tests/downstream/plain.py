"""Plain configs of mmpretrain, mmdet and mmseg, as somebody writes them elsewhere, and the data that they read."""

import cv2
import numpy as np
from coco_set import make_coco_set

ARCH = "dict(family='qsd', widths=(4, 4, 8, 8, 8), depths=(1, 1, 1, 1, 1), num_heads=2)"
HEADERS = {
    # how a config names the backbone: what stands at its top, and the type
    'scope': ('', 'qsdt_mm.SpikeDrivenTransformer'),
    'import': ("custom_imports = dict(imports=['qsdt_mm'], allow_failed_imports=False)", 'SpikeDrivenTransformer'),
}
RUN = """
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
val_cfg, test_cfg = dict(), dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
loader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False), **collate
)
train_dataloader = val_dataloader = test_dataloader = loader
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
"""
CONFIGS = {
    'mmpretrain': """
{header}
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='{backbone}', arch={arch}),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=8, loss=dict(type='CrossEntropyLoss')),
)
data_preprocessor = dict(num_classes=2)
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), dict(type='PackInputs')]
dataset = dict(type='CustomDataset', data_root='{data}/classes', pipeline=pipeline)
collate = dict(collate_fn=dict(type='default_collate'))
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1,))
""",
    'mmdet': """
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'
{header}
default_scope = 'mmdet'
model = dict(
    backbone=dict(_delete_=True, type='{backbone}', arch={arch}, out_indices=(1, 2, 3, 4)),
    neck=dict(in_channels=[4, 8, 8, 8], out_channels=8),
    rpn_head=dict(in_channels=8, feat_channels=8, anchor_generator=dict(strides=[4, 8, 16, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=8, featmap_strides=[4, 8, 16, 16]),
        bbox_head=dict(in_channels=8, fc_out_channels=16, num_classes=2),
    ),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(128, 96), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(
    type='CocoDataset', data_root='{data}/coco', ann_file='set.json', data_prefix=dict(img=''), pipeline=pipeline,
    metainfo=dict(classes=('green', 'red')),
)
collate = dict()
val_evaluator = test_evaluator = dict(type='CocoMetric', ann_file='{data}/coco/set.json', metric='bbox')
""",
    'mmseg': """
{header}
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32), seg_pad_val=255),
    backbone=dict(type='{backbone}', arch={arch}, out_indices=(1, 2, 3, 4)),
    decode_head=dict(
        type='FCNHead', in_channels=8, in_index=3, channels=8, num_convs=1, num_classes=2, norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
dataset = dict(
    type='BaseSegDataset', data_root='{data}/masks', data_prefix=dict(img_path='images', seg_map_path='labels'),
    img_suffix='.png', seg_map_suffix='.png', pipeline=pipeline, reduce_zero_label=False,
    metainfo=dict(classes=('dark', 'light'), palette=[[0, 0, 0], [255, 255, 255]]),
)
collate = dict()
val_evaluator = test_evaluator = dict(type='IoUMetric')
""",
}
METRIC = dict(mmpretrain='accuracy/top1', mmdet='coco/bbox_mAP', mmseg='mIoU')


def make_data(root):
    """Two classes of two images, four images with boxes, two with label images."""
    numbers = np.random.default_rng(0)
    for folder in ('classes/a', 'classes/b', 'coco', 'masks/images', 'masks/labels'):
        (root / folder).mkdir(parents=True)
    for name in ('classes/a/0', 'classes/a/1', 'classes/b/0', 'classes/b/1', 'masks/images/0', 'masks/images/1'):
        assert cv2.imwrite(str(root / f'{name}.png'), numbers.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    for i in range(2):
        assert cv2.imwrite(str(root / f'masks/labels/{i}.png'), numbers.integers(0, 2, (32, 32), dtype=np.uint8))
    make_coco_set(root / 'coco')
    return root


def write_config(path, library, header, data):
    """Write a plain config of a library."""
    top, backbone = HEADERS[header]
    text = CONFIGS[library].format(header=top, backbone=backbone, arch=ARCH, data=data) + RUN
    path.write_text(text)
    return path
