"""QSD-Transformer of 1.2 M parameters on CIFAR-10 in folders, 4-bit weights, 28 epochs.

python tools/train.py configs/classification/qsd-small_1xb64_cifar10-folder.py
Data: data/cifar10/{train,val}/CLASS/*.jpg.
Expect: 66.05 % top-1 with 10,000 training images, seed 0; 25 minutes on two cores.
"""

_base_ = [
    '../_base_/models/qsd-small_32px.py',
    '../_base_/datasets/cifar10_folder.py',
    '../_base_/schedules/cifar10_28e.py',
    '../_base_/default_runtime.py',
]

randomness = dict(seed=0)
