"""Spike-MAE pre-training of e-173m on ImageNet: the paper's recipe, 200 epochs.

tools/dist_train.sh configs/selfsup/spike-mae_e-173m_8xb256_in1k.py 8 --amp
Data: data/imagenet/train/CLASS/*.JPEG, labels unused.
Expect: reconstructions.png after each epoch; not trained here. Then configs/classification/e-173m_8xb128_in1k.py.
"""

_base_ = [
    '../_base_/models/spike-mae.py',
    '../_base_/datasets/imagenet_mae.py',
    '../_base_/schedules/spike-mae_200e.py',
    '../_base_/selfsup_runtime.py',
]

model = dict(backbone=dict(arch=dict(preset='e-173m', layer_scale=None)), neck=dict(embed_dim=768))
