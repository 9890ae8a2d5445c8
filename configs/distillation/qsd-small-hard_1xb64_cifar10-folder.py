"""qsd-small at 4 bits that learns its conventional counterpart's classes beside the labels (train that first).

python tools/train.py configs/distillation/qsd-small-hard_1xb64_cifar10-folder.py
"""

_base_ = './qsd-small-fgd_1xb64_cifar10-folder.py'

model = dict(label_weight=0.5, distillation=[dict(type='HardLogitDistillation', weight=0.5)])
