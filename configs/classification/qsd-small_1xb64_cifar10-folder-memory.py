"""QSD-Transformer of 1.2 M parameters on CIFAR-10 in folders, held in memory, 4-bit weights, 28 epochs.

python tools/train.py configs/classification/qsd-small_1xb64_cifar10-folder-memory.py
Data: data/cifar10/{train,val}/CLASS/*.jpg; the last 500 training images of each class are for validation.
Expect: not trained here.
"""

_base_ = [
    '../_base_/models/qsd-small_32px.py',
    '../_base_/datasets/cifar10_folder_memory.py',
    '../_base_/schedules/cifar10_28e.py',
    '../_base_/default_runtime.py',
]

randomness = dict(seed=0)
