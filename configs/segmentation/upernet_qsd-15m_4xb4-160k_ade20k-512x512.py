_base_ = [
    '../_base_/models/upernet_spike.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(backbone=dict(arch='qsd-15m'), decode_head=dict(in_channels=[64, 128, 256, 360]))
