_base_ = [
    '../_base_/models/qsd.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/qsd_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='qsd-8m'), head=dict(in_channels=256))
