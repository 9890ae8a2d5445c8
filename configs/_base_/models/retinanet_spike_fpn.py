"""mmdet's RetinaNet with spiking backbone, neck and head: levels of strides 8, 16, 16, 32 and 64."""

_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'

model = dict(
    backbone=dict(_delete_=True, type='SpikeDrivenTransformer', out_indices=(1, 2, 3, 4)),
    neck=dict(type='SpikeFPN'),
    bbox_head=dict(
        type='SpikeRetinaHead',
        norm_cfg=dict(type='BN'),  # without a norm the later of the stacked convolutions fall silent
        anchor_generator=dict(strides=[8, 16, 16, 32, 64], base_sizes=[8, 16, 32, 64, 128]),
    ),
)
