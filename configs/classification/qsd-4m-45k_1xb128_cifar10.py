"""As qsd-4m_1xb128_cifar10 on 45,000 of the training images, validated on the other 5,000.

python tools/train.py configs/classification/qsd-4m-45k_1xb128_cifar10.py --amp
Data: mmpretrain downloads it to data/cifar10; the last 500 training images of each class are for validation.
Expect: not trained here; with images in folders 86.86 % top-1 on those 5,000.
"""

_base_ = [
    '../_base_/models/qsd-4m_32px.py',
    '../_base_/datasets/cifar10_memory.py',
    '../_base_/schedules/cifar10_24e.py',
    '../_base_/default_runtime.py',
]

held_out = 500  # of each class
train_images = dict(type='CIFAR10', data_root='data/cifar10', split='train')
train_dataloader = dict(batch_size=128, dataset=dict(skip_last_per_class=held_out))
val_dataloader = dict(batch_size=250, dataset=dict(source=train_images, last_per_class=held_out))
test_dataloader = dict(batch_size=250)
randomness = dict(seed=0)
