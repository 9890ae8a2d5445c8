"""QSD-Transformer of 31 M parameters on ImageNet, 4-bit weights: the paper's recipe, 300 epochs.

tools/dist_train.sh configs/classification/qsd-31m_8xb196_in1k.py 8 --amp
Data: data/imagenet/{train,val}/CLASS/*.JPEG.
Expect: not trained here, and no figure of the paper is for this size.
"""

_base_ = [
    '../_base_/models/qsd.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/qsd_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='qsd-31m'), head=dict(in_channels=480))
