"""A QSD network of 1.2 M parameters on CIFAR-10, which mmpretrain downloads.

python tools/train.py configs/classification/qsd-small_1xb64_cifar10.py
"""

_base_ = [
    '../_base_/models/qsd-small_32px.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/cifar10_28e.py',
    '../_base_/default_runtime.py',
]

randomness = dict(seed=0)
