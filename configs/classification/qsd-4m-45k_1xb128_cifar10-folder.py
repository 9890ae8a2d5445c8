"""As qsd-4m-45k_1xb128_cifar10, with the images in folders.

python tools/train.py configs/classification/qsd-4m-45k_1xb128_cifar10-folder.py --amp
Data: data/cifar10/{train,val}/CLASS/*.jpg; the last 500 training images of each class are for validation.
Expect: 86.86 % top-1 on those 5,000 after 24 epochs, seed 0; 106 minutes on one core, beside other work.
"""

_base_ = [
    '../_base_/models/qsd-4m_32px.py',
    '../_base_/datasets/cifar10_folder_memory.py',
    '../_base_/schedules/cifar10_24e.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=250)
test_dataloader = dict(batch_size=250)
randomness = dict(seed=0)
