"""Semantic FPN, small and spiking, on nuclei, from scratch: semantic-fpn_r18_* with its parts exchanged.

4-bit backbone, 8-bit neck and head.

python tools/train.py configs/segmentation/semantic-fpn_qsd-small_1xb8-500i_cells-256x256.py
Data: data/cells/{images,semantic}/{train,val}/*.png.
Expect: mIoU 85.0 after 500 iterations, seed 0; 17 minutes on two cores.
"""

_base_ = './semantic-fpn_r18_1xb8-500i_cells-256x256.py'

weight_bits = 8  # of neck and head: few weights, whose outputs are the classes of pixels
model = dict(
    backbone=dict(
        _delete_=True,
        type='SpikeDrivenTransformer',
        arch=dict(
            family='qsd',
            widths=(16, 32, 64, 96, 128),  # those of qsd-small, for two cores
            depths=(1, 1, 1, 2, 1),
            layer_scale=0.1,  # 1e-6 is for hundreds of epochs
        ),
        out_indices=(0, 1, 2, 4),  # strides 2, 4, 8, 16
    ),
    neck=dict(type='SpikeFPN', weight_bits=weight_bits, in_channels=[16, 32, 64, 128]),
    decode_head=dict(type='SpikeFPNHead', weight_bits=weight_bits, feature_strides=[2, 4, 8, 16]),
)
