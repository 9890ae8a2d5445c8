"""Semantic FPN on ADE20K with qsd-15m (QSD-Transformer) and spiking neck and head, 160,000 iterations.

tools/dist_train.sh configs/segmentation/semantic-fpn_qsd-15m_4xb4-160k_ade20k-512x512.py 4
Data: data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}.
Expect: not trained here; stepped and evaluated on four small images in the tests.
"""

_base_ = [
    '../_base_/models/semantic-fpn_spike.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(backbone=dict(arch='qsd-15m'), neck=dict(in_channels=[32, 64, 128, 360]))
