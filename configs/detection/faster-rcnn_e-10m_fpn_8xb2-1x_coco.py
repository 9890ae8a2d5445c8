"""Faster R-CNN on COCO's boxes with e-10m (E-SpikeFormer) and spiking FPN and heads, 12 epochs.

tools/dist_train.sh configs/detection/faster-rcnn_e-10m_fpn_8xb2-1x_coco.py 8
Data: data/coco/{annotations,train2017,val2017}.
Expect: not trained here; stepped and evaluated on four small images in the tests.
"""

_base_ = [
    '../_base_/models/faster-rcnn_spike_fpn.py',
    '../_base_/datasets/coco_detection_ms-crop.py',
    '../_base_/schedules/detection_1x.py',
    '../_base_/detection_runtime.py',
]

model = dict(
    backbone=dict(arch='e-10m'),
    neck=dict(in_channels=[48, 96, 192, 240], out_channels=192),
    rpn_head=dict(in_channels=192, feat_channels=192),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=192),
        bbox_head=dict(in_channels=192, fc_out_channels=768),
    ),
)
