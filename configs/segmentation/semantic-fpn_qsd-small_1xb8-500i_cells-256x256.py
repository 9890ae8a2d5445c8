"""A small quantized, spiking Semantic FPN on nuclei, from scratch: semantic-fpn_r18_* with its parts exchanged.

Weights: 4 bits in the backbone, 8 in neck and head.

python tools/train.py configs/segmentation/semantic-fpn_qsd-small_1xb8-500i_cells-256x256.py
"""

_base_ = './semantic-fpn_r18_1xb8-500i_cells-256x256.py'

weight_bits = 8
model = dict(
    backbone=dict(
        _delete_=True,
        type='SpikeDrivenTransformer',
        arch=dict(family='qsd', widths=(16, 32, 64, 96, 128), depths=(1, 1, 1, 2, 1), layer_scale=0.1),
        out_indices=(0, 1, 2, 4),  # strides 2, 4, 8, 16
    ),
    neck=dict(type='SpikeFPN', weight_bits=weight_bits, in_channels=[16, 32, 64, 128]),
    decode_head=dict(type='SpikeFPNHead', weight_bits=weight_bits, feature_strides=[2, 4, 8, 16]),
)
