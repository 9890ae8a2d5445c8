"""As qsd-4m_1xb128_cifar10, with the images in folders.

python tools/train.py configs/classification/qsd-4m_1xb128_cifar10-folder.py --amp
Data: data/cifar10/{train,val}/CLASS/*.jpg; those in val are met once, at the end.
Expect: 86.86 % top-1 of a tenth of the images when trained on the rest (qsd-4m-45k_1xb128_cifar10-folder), seed 0;
172 minutes on one core, beside much other work. The network comes with the package.
"""

_base_ = './qsd-4m-45k_1xb128_cifar10-folder.py'

train_dataloader = dict(dataset=dict(skip_last_per_class=None))
val_dataloader = dict(dataset=dict(source={{_base_.test_images}}, last_per_class=None))
train_cfg = dict(val_interval={{_base_.max_epochs}})  # once, at the end: nothing is chosen by these images
default_hooks = dict(checkpoint=dict(save_best=None))
