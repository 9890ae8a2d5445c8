"""mmdet's own Mask R-CNN on nuclei, from scratch, nothing spiking: what mask-rcnn_qsd-small_* is measured against.

python tools/train.py configs/detection/mask-rcnn_r18_fpn_1xb4-18e_cells.py
Data: data/cells/{images/{train,val},annotations/instances_{train,val}.json}.
Expect: box AP 44.6, mask AP 48.7 after 18 epochs, seed 0; half an hour on two cores.
"""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/datasets/cells_instance.py',
    '../_base_/schedules/cells_detection_18e.py',
    '../_base_/detection_runtime.py',
]

model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64),  # a quarter of mmdet's 256, here and in the heads
    # Sides of 8 and 12 px at stride 4, and so on up to 128 and 192; half of the nuclei are under 31 px.
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[2, 3])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=1),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(in_channels=64, conv_out_channels=64, num_classes=1),
    ),
    # Fewer proposals than mmdet's 1000 and 512 samples, for two cores; an image holds 31 nuclei on average.
    # Boxes of different levels never overlap here: suppressed level by level, they are compared with fewer others.
    train_cfg=dict(
        rpn_proposal=dict(max_per_img=500, nms=dict(split_thr=1)),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(max_per_img=500, nms=dict(split_thr=1)), rcnn=dict(max_per_img=300)),
)
randomness = dict(seed=0)
