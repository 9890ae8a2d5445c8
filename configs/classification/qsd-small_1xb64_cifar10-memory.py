"""QSD-Transformer of 1.2 M parameters on all of CIFAR-10, held in memory, 4-bit weights, 28 epochs.

python tools/train.py configs/classification/qsd-small_1xb64_cifar10-memory.py
Data: mmpretrain downloads it to data/cifar10.
Expect: not trained here; the same steps as qsd-small_1xb64_cifar10.py, without waiting for images.
"""

_base_ = [
    '../_base_/models/qsd-small_32px.py',
    '../_base_/datasets/cifar10_memory.py',
    '../_base_/schedules/cifar10_28e.py',
    '../_base_/default_runtime.py',
]

randomness = dict(seed=0)
