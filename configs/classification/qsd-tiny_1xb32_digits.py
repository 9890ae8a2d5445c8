"""A small QSD network on scikit-learn's handwritten digits: make demo trains it on two cores.

python tools/train.py configs/classification/qsd-tiny_1xb32_digits.py
"""

_base_ = [
    '../_base_/models/qsd.py',
    '../_base_/datasets/digits.py',
    '../_base_/default_runtime.py',
]

arch = dict(
    family='qsd',
    widths=(16, 24, 32, 48, 64),
    depths=(0, 1, 1, 1, 1),
    num_heads=8,
    strides=(1, 2, 2, 2, 1),  # 32 px: tokens on a grid of 4 x 4
    stem_kernel=3,
    layer_scale=0.1,  # 1e-6 is for hundreds of epochs
)
model = dict(
    backbone=dict(arch=arch, in_channels=1),
    head=dict(num_classes=10, in_channels=64),
)

max_epochs = 12
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(logger=dict(interval=20))
randomness = dict(seed=0)
