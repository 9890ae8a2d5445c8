"""RTMDet, small and spiking, one stage, on boxes of nuclei, from scratch: a start for boxes of your own.

4-bit backbone, 8-bit neck and head.

python tools/train.py configs/detection/rtmdet_qsd-small_1xb4-18e_cells-320px.py
Data: data/cells/{images/{train,val},annotations/instances_{train,val}.json}.
Expect: box AP 31.7 after 18 epochs, seed 0; under an hour on one core.
"""

_base_ = [
    '../_base_/models/rtmdet_spike.py',
    '../_base_/datasets/cells_boxes_320px.py',
    '../_base_/schedules/cells_detection_18e.py',
    '../_base_/detection_runtime.py',
]

weight_bits = 8  # of neck and head: few weights, whose outputs are boxes and classes
model = dict(
    backbone=dict(
        arch=dict(
            family='qsd',
            widths=(16, 32, 64, 96, 128),  # those of qsd-small, for two cores
            depths=(1, 1, 1, 2, 1),
            strides=(2, 2, 2, 2, 2),
            layer_scale=0.1,  # 1e-6 is for hundreds of epochs
        ),
    ),
    neck=dict(weight_bits=weight_bits, in_channels=[64, 96, 128], out_channels=64),
    bbox_head=dict(weight_bits=weight_bits, in_channels=64, feat_channels=64, num_classes=len(_base_.classes)),
)
optim_wrapper = dict(paramwise_cfg=dict(bypass_duplicate=True))  # levels share convolutions
randomness = dict(seed=0)
