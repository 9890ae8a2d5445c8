"""Fine-tuning after masked pre-training, whose weights are named here or with --cfg-options:

model.backbone.init_cfg = dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')
"""

_base_ = [
    '../_base_/models/espike-large.py',
    '../_base_/datasets/imagenet_crop232.py',
    '../_base_/schedules/espike-large_150e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='e-173m'), head=dict(in_channels=768))
train_dataloader = dict(batch_size=128)
