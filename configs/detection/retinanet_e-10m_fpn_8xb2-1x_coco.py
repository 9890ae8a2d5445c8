_base_ = [
    '../_base_/models/retinanet_spike_fpn.py',
    '../_base_/datasets/coco_detection_ms-crop.py',
    '../_base_/schedules/detection_1x.py',
    '../_base_/detection_runtime.py',
]

model = dict(
    backbone=dict(arch='e-10m'),
    neck=dict(in_channels=[48, 96, 192, 240], out_channels=192),
    bbox_head=dict(in_channels=192, feat_channels=192),
)
