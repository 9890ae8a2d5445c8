"""E-SpikeFormer of 10 M parameters on ImageNet, real weights: the paper's recipe, 200 epochs.

tools/dist_train.sh configs/classification/e-10m_8xb256_in1k.py 8 --amp
Data: data/imagenet/{train,val}/CLASS/*.JPEG.
Expect: 78.5 % top-1 in the paper (T x D = 1 x 4); not trained here.
"""

_base_ = [
    '../_base_/models/espike.py',
    '../_base_/datasets/imagenet_crop232.py',
    '../_base_/schedules/espike_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='e-10m'), head=dict(in_channels=240))
