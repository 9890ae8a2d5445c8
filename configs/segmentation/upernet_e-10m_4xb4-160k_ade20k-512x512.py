"""UPerNet on ADE20K with e-10m (E-SpikeFormer) and a spiking head, 160,000 iterations.

tools/dist_train.sh configs/segmentation/upernet_e-10m_4xb4-160k_ade20k-512x512.py 4
Data: data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}.
Expect: not trained here; stepped and evaluated on four small images in the tests.
"""

_base_ = [
    '../_base_/models/upernet_spike.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(backbone=dict(arch='e-10m'), decode_head=dict(in_channels=[48, 96, 192, 240]))
