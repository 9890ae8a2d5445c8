"""QSD-Transformer of 0.3 M parameters on CIFAR-10 in folders, 4-bit weights, 5 epochs: for comparing settings.

python tools/train.py configs/classification/qsd-tiny_1xb64_cifar10-folder.py --amp
Data: data/cifar10/{train,val}/CLASS/*.jpg.
Expect: not trained here.
"""

_base_ = [
    '../_base_/models/qsd.py',
    '../_base_/datasets/cifar10_folder.py',
    '../_base_/schedules/cifar10_28e.py',
    '../_base_/default_runtime.py',
]

arch = dict(
    family='qsd',
    widths=(16, 24, 32, 48, 64),  # those of the network for digits
    depths=(0, 1, 1, 1, 1),
    num_heads=8,
    strides=(1, 2, 2, 2, 1),
    stem_kernel=3,
    layer_scale=0.1,
)
model = dict(backbone=dict(arch=arch), head=dict(num_classes=10, in_channels=64))

max_epochs = 5  # for three minutes with 10,000 images on one core
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
randomness = dict(seed=0)
