"""The conventional counterpart of qsd-small, ReLU for neurons and real weights: the teacher of the configs beside it.

python tools/train.py configs/distillation/qsd-small-relu_1xb64_cifar10-folder.py --work-dir work_dirs/teacher
Data: data/cifar10/{train,val}/CLASS/*.jpg.
Expect: 65.2 % top-1 after 10 epochs on 10,000 images, 10 to 25 minutes on a busy core; the 28 epochs were not trained
    here.
"""

_base_ = '../classification/qsd-small_1xb64_cifar10-folder.py'

model = dict(
    backbone=dict(neuron=dict(type='ReLU'), weight_bits=32),
    head=dict(neuron=dict(_delete_=True, type='ReLU')),
)
