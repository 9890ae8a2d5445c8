"""RetinaNet on COCO with qsd-31m (QSD-Transformer) and spiking FPN and heads, 12 epochs.

tools/dist_train.sh configs/detection/retinanet_qsd-31m_fpn_8xb2-1x_coco.py 8
Data: data/coco/{annotations,train2017,val2017}.
Expect: not trained here; stepped and evaluated on four small images in the tests.
"""

_base_ = [
    '../_base_/models/retinanet_spike_fpn.py',
    '../_base_/datasets/coco_detection_ms-crop.py',
    '../_base_/schedules/detection_1x.py',
    '../_base_/detection_runtime.py',
]

model = dict(
    backbone=dict(arch='qsd-31m'),
    neck=dict(in_channels=[96, 192, 384, 480], out_channels=384),
    bbox_head=dict(in_channels=384, feat_channels=384),
)
