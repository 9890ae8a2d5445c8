"""Network of 4.5 M parameters and 4-bit weights on 45,000 images of CIFAR-10 in folders, validated on the other 5,000.

python tools/train.py configs/classification/qsd-4m_1xb128_cifar10-folder-memory-45k.py --amp
Data: data/cifar10/train/CLASS/*.jpg; the last 500 images of each class are for validation.
"""

_base_ = [
    '../_base_/models/qsd-4m_32px.py',
    '../_base_/datasets/cifar10_folder_memory.py',
    '../_base_/schedules/cifar10_24e.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=250)
test_dataloader = val_dataloader
randomness = dict(seed=0)
