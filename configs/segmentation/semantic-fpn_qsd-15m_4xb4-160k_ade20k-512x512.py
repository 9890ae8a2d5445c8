_base_ = [
    '../_base_/models/semantic-fpn_spike.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(backbone=dict(arch='qsd-15m'), neck=dict(in_channels=[32, 64, 128, 360]))
