"""Semantic FPN on ADE20K with e-5m (E-SpikeFormer) and spiking neck and head, 160,000 iterations.

tools/dist_train.sh configs/segmentation/semantic-fpn_e-5m_4xb4-160k_ade20k-512x512.py 4
Data: data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}.
Expect: 33.6 mIoU in the paper; not trained here, stepped on four small images in the tests.
"""

_base_ = [
    '../_base_/models/semantic-fpn_spike.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(backbone=dict(arch='e-5m'), neck=dict(in_channels=[16, 32, 64, 192]))
