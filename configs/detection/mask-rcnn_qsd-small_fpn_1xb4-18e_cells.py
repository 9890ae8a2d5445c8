"""Mask R-CNN, small and spiking, on nuclei, from scratch: mask-rcnn_r18_* with its parts exchanged.

4-bit backbone, 8-bit neck and heads.

python tools/train.py configs/detection/mask-rcnn_qsd-small_fpn_1xb4-18e_cells.py
Data: data/cells/{images/{train,val},annotations/instances_{train,val}.json}.
Expect: box AP 30.3, mask AP 37.0 after 18 epochs, seed 0; 47 minutes on one core, beside other work.
"""

_base_ = './mask-rcnn_r18_fpn_1xb4-18e_cells.py'

weight_bits = 8  # of neck and heads: few weights, whose outputs are boxes and classes
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
        out_indices=(1, 2, 3, 4),  # strides 4, 8, 16, 16; the neck adds 32
    ),
    neck=dict(type='SpikeFPN', weight_bits=weight_bits, in_channels=[32, 64, 96, 128]),
    rpn_head=dict(
        type='SpikeRPNHead',
        weight_bits=weight_bits,
        anchor_generator=dict(strides=[4, 8, 16, 16, 32], base_sizes=[4, 8, 16, 32, 64]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[4, 8, 16, 16]),
        bbox_head=dict(type='SpikeShared2FCBBoxHead', weight_bits=weight_bits),
        mask_roi_extractor=dict(featmap_strides=[4, 8, 16, 16]),
        mask_head=dict(type='SpikeFCNMaskHead', weight_bits=weight_bits),
    ),
)
