"""QSD-Transformer of 0.3 M parameters on handwritten digits, 4-bit weights, 12 epochs: the network of make demo.

python tools/train.py configs/classification/qsd-tiny_1xb32_digits.py
Data: in scikit-learn, nothing to download.
Expect: 98.6 % top-1 on the 355 digits that are held out, seed 0; a minute and a half on two cores.
"""

_base_ = [
    '../_base_/models/qsd.py',
    '../_base_/datasets/digits.py',
    '../_base_/default_runtime.py',
]

arch = dict(
    family='qsd',
    widths=(16, 24, 32, 48, 64),  # the last are a quarter of qsd-8m's
    depths=(0, 1, 1, 1, 1),  # none at full size, where blocks cost most
    num_heads=8,
    strides=(1, 2, 2, 2, 1),  # 32 px: tokens on a grid of 4 x 4
    stem_kernel=3,  # 7 is for images of 224 px
    layer_scale=0.1,  # 1e-6 is for hundreds of epochs
)
model = dict(
    backbone=dict(arch=arch, in_channels=1),
    head=dict(num_classes=10, in_channels=64),
)

max_epochs = 12  # for a minute and a half on two cores
optim_wrapper = dict(
    # AdamW: the papers' LAMB is for batches of a thousand and more. A high rate, for few epochs from scratch.
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
    # As the papers: norms, layer scales and LSQ steps do not decay; nor does what neurons learn.
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
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
