"""mmdet's Faster R-CNN with spiking backbone, neck and heads; levels as in mask-rcnn_spike_fpn.py."""

_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(_delete_=True, type='SpikeDrivenTransformer', out_indices=(1, 2, 3, 4)),
    neck=dict(type='SpikeFPN'),
    rpn_head=dict(
        type='SpikeRPNHead', anchor_generator=dict(strides=[4, 8, 16, 16, 32], base_sizes=[4, 8, 16, 32, 64])
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[4, 8, 16, 16]),
        bbox_head=dict(type='SpikeShared2FCBBoxHead'),
    ),
)
