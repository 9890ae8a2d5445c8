"""Faster R-CNN, small and spiking, on boxes of nuclei, from scratch: a start for boxes of your own.

4-bit backbone, 8-bit neck and heads.

python tools/train.py configs/detection/faster-rcnn_qsd-small_fpn_1xb4-18e_cells-320px.py
Data: data/cells/{images/{train,val},annotations/instances_{train,val}.json}.
Expect: box AP 35.2 after 18 epochs, seed 0; under an hour on one core.
"""

_base_ = [
    '../_base_/models/faster-rcnn_spike_fpn.py',
    '../_base_/datasets/cells_boxes_320px.py',
    '../_base_/schedules/cells_detection_18e.py',
    '../_base_/detection_runtime.py',
]

weight_bits = 8  # of neck and heads: few weights, whose outputs are boxes and classes
model = dict(
    backbone=dict(
        arch=dict(
            family='qsd',
            widths=(16, 32, 64, 96, 128),  # those of qsd-small, for two cores
            depths=(1, 1, 1, 2, 1),
            layer_scale=0.1,  # 1e-6 is for hundreds of epochs
        ),
    ),
    neck=dict(weight_bits=weight_bits, in_channels=[32, 64, 96, 128], out_channels=64),
    # Sides of 8 and 12 px at stride 4, and so on up to 128 and 192.
    rpn_head=dict(weight_bits=weight_bits, in_channels=64, feat_channels=64, anchor_generator=dict(scales=[2, 3])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(weight_bits=weight_bits, in_channels=64, fc_out_channels=256, num_classes=len(_base_.classes)),
    ),
    # Fewer proposals than mmdet's 1000 and 512 samples, for two cores.
    train_cfg=dict(rpn_proposal=dict(max_per_img=500), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(max_per_img=500), rcnn=dict(max_per_img=300)),
)
randomness = dict(seed=0)
