_base_ = [
    '../_base_/models/semantic-fpn_spike.py',
    '../_base_/datasets/voc12_512.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(backbone=dict(arch='e-10m'), neck=dict(in_channels=[24, 48, 96, 240]), decode_head=dict(num_classes=21))
