"""A Mask R-CNN of a few channels, as the end of a config; ``{base!r}`` is the config that it changes."""

MODEL = """
_base_ = {base!r}
model = dict(
    backbone=dict(arch=dict(widths=(4, 8, 8, 8, 8), depths=(0, 1, 1, 1, 1))),
    neck=dict(in_channels=[8, 8, 8, 8], out_channels=8),
    rpn_head=dict(in_channels=8, feat_channels=8),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=8),
        bbox_head=dict(in_channels=8, fc_out_channels=16, num_classes=2),
        mask_roi_extractor=dict(out_channels=8),
        mask_head=dict(in_channels=8, conv_out_channels=8, num_classes=2),
    ),
    test_cfg=dict(rpn=dict(nms_pre=40, max_per_img=8), rcnn=dict(score_thr=0.0, max_per_img=5)),
)
"""
