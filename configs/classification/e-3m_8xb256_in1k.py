"""E-SpikeFormer of 3 M parameters on ImageNet, real weights: the paper's recipe, 200 epochs.

tools/dist_train.sh configs/classification/e-3m_8xb256_in1k.py 8 --amp
Data: data/imagenet/{train,val}/CLASS/*.JPEG.
Expect: not trained here, and no figure of the paper is for this size.
"""

_base_ = [
    '../_base_/models/espike.py',
    '../_base_/datasets/imagenet_crop232.py',
    '../_base_/schedules/espike_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='e-3m'), head=dict(in_channels=128))
