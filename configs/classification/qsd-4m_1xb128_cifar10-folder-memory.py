"""Network of 4.5 M parameters and 4-bit weights on all 50,000 training images of CIFAR-10 in folders.

python tools/train.py configs/classification/qsd-4m_1xb128_cifar10-folder-memory.py --amp
Data: data/cifar10/{train,val}/CLASS/*.jpg; val is met in the test alone, nothing is chosen on the way.
"""

_base_ = './qsd-4m_1xb128_cifar10-folder-memory-45k.py'

train_dataloader = dict(dataset=dict(skip_last_per_class=None))
val_dataloader = None
val_cfg = None
val_evaluator = None
default_hooks = dict(checkpoint=dict(save_best=None))
