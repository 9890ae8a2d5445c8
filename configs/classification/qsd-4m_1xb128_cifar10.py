"""Network of 4.5 M parameters and 4-bit weights on all 50,000 training images of CIFAR-10, 24 epochs.

python tools/train.py configs/classification/qsd-4m_1xb128_cifar10.py --amp
Data: mmpretrain downloads it to data/cifar10. Test images are met once, at the end: nothing is chosen by them.
Expect: 86.86 % top-1 of a tenth of the images when trained on the rest (qsd-4m-45k_1xb128_cifar10-folder), seed 0;
172 minutes on one core, beside much other work. The network comes with the package.
"""

_base_ = [
    '../_base_/models/qsd-4m_32px.py',
    '../_base_/datasets/cifar10_memory.py',
    '../_base_/schedules/cifar10_24e.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=250)
test_dataloader = dict(batch_size=250)
train_cfg = dict(val_interval={{_base_.max_epochs}})  # once, at the end: nothing is chosen by the test images
default_hooks = dict(checkpoint=dict(save_best=None))
randomness = dict(seed=0)
