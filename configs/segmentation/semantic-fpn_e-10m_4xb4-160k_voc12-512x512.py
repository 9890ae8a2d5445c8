"""Semantic FPN on VOC2012 with e-10m (E-SpikeFormer) and spiking neck and head, 160,000 iterations.

tools/dist_train.sh configs/segmentation/semantic-fpn_e-10m_4xb4-160k_voc12-512x512.py 4
Data: data/VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation}.
Expect: not trained here; stepped and evaluated on four small images in the tests.
"""

_base_ = [
    '../_base_/models/semantic-fpn_spike.py',
    '../_base_/datasets/voc12_512.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(backbone=dict(arch='e-10m'), neck=dict(in_channels=[24, 48, 96, 240]), decode_head=dict(num_classes=21))
