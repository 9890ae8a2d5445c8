"""As qsd-4m_1xb128_cifar10, with the images in folders.

python tools/train.py configs/classification/qsd-4m_1xb128_cifar10-folder.py --amp
Data: data/cifar10/{train,val}/CLASS/*.jpg; those in val are met in tools/test.py alone.
Expect: not trained to its end here; on nine tenths of the images 86.86 % top-1 of the rest.
"""

_base_ = './qsd-4m-45k_1xb128_cifar10-folder.py'

train_dataloader = dict(dataset=dict(skip_last_per_class=None))
val_dataloader = None
val_cfg = None
val_evaluator = None
default_hooks = dict(checkpoint=dict(save_best=None))
