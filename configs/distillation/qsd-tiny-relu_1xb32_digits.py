"""The conventional counterpart of qsd-tiny_1xb32_digits.py, ReLU for neurons and real weights: a teacher.

python tools/train.py configs/distillation/qsd-tiny-relu_1xb32_digits.py
Data: in scikit-learn, nothing to download.
Expect: not trained here.
"""

_base_ = '../classification/qsd-tiny_1xb32_digits.py'

model = dict(
    backbone=dict(neuron=dict(type='ReLU'), weight_bits=32),
    head=dict(neuron=dict(_delete_=True, type='ReLU')),
)
