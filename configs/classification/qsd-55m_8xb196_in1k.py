"""QSD-Transformer of 55 M parameters on ImageNet, 4-bit weights: the paper's recipe, 300 epochs.

tools/dist_train.sh configs/classification/qsd-55m_8xb196_in1k.py 8 --amp
Data: data/imagenet/{train,val}/CLASS/*.JPEG.
Expect: 80.3 % top-1 in the paper (T x D = 1 x 4); not trained here.
"""

_base_ = [
    '../_base_/models/qsd.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/qsd_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='qsd-55m'), head=dict(in_channels=640))
