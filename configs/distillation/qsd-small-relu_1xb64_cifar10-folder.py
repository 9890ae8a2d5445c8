"""The conventional counterpart of qsd-small: ReLU for neurons, real weights; the teacher of the configs beside it.

python tools/train.py configs/distillation/qsd-small-relu_1xb64_cifar10-folder.py --work-dir work_dirs/teacher
"""

_base_ = '../classification/qsd-small_1xb64_cifar10-folder.py'

model = dict(
    backbone=dict(neuron=dict(type='ReLU'), weight_bits=32),
    head=dict(neuron=dict(_delete_=True, type='ReLU')),
)
