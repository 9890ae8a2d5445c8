"""QSD-Transformer of 1.2 M parameters on all of CIFAR-10, 4-bit weights, 28 epochs.

python tools/train.py configs/classification/qsd-small_1xb64_cifar10.py
Data: mmpretrain downloads it to data/cifar10.
Expect: not trained here; at 25 minutes for 10,000 images on two cores, all 50,000 would take two hours.
"""

_base_ = [
    '../_base_/models/qsd-small_32px.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/cifar10_28e.py',
    '../_base_/default_runtime.py',
]

randomness = dict(seed=0)
