_base_ = [
    '../_base_/models/espike.py',
    '../_base_/datasets/imagenet_crop232.py',
    '../_base_/schedules/espike_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='e-19m'), head=dict(in_channels=360))
