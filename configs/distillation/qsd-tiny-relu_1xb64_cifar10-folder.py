"""The conventional counterpart of qsd-tiny on CIFAR-10, ReLU for neurons and real weights: a teacher.

python tools/train.py configs/distillation/qsd-tiny-relu_1xb64_cifar10-folder.py --amp
Data: data/cifar10/{train,val}/CLASS/*.jpg.
Expect: not trained here.
"""

_base_ = '../classification/qsd-tiny_1xb64_cifar10-folder.py'

model = dict(
    backbone=dict(neuron=dict(type='ReLU'), weight_bits=32),
    head=dict(neuron=dict(_delete_=True, type='ReLU')),
)
