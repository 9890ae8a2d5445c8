"""As qsd-4m-45k_1xb128_cifar10-folder, trained with attention per slot.

python tools/train.py configs/classification/qsd-4m-45k-per-slot_1xb128_cifar10-folder.py --amp
Data: data/cifar10/{train,val}/CLASS/*.jpg; the last 500 training images of each class are for validation.
Expect: not trained here.
"""

_base_ = './qsd-4m-45k_1xb128_cifar10-folder.py'

model = dict(backbone=dict(attention='per_slot'))
