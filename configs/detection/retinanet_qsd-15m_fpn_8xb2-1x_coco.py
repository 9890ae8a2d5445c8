_base_ = [
    '../_base_/models/retinanet_spike_fpn.py',
    '../_base_/datasets/coco_detection_ms-crop.py',
    '../_base_/schedules/detection_1x.py',
    '../_base_/detection_runtime.py',
]

model = dict(
    backbone=dict(arch='qsd-15m'),
    neck=dict(in_channels=[64, 128, 256, 360], out_channels=256),
    bbox_head=dict(in_channels=256, feat_channels=256),
)
