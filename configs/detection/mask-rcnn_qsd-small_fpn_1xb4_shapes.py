"""Your own boxes and masks in COCO's format, from scratch, 12 epochs; the example draws its data.

python tools/dataset_converters/make_shapes.py
python tools/train.py configs/detection/mask-rcnn_qsd-small_fpn_1xb4_shapes.py
Data: data/shapes/{scenes/{train,val},annotations/instances_{train,val}.json}, drawn by the first line.
Expect: two to five minutes on one core; what it reaches has not been written down here.
"""

_base_ = './mask-rcnn_qsd-small_fpn_1xb4-18e_cells.py'

root = 'data/shapes/'
classes = ('circle', 'square', 'triangle')  # as the annotation file names them
size = (64, 64)
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=len(classes)), mask_head=dict(num_classes=len(classes))),
    train_cfg=dict(rpn_proposal=dict(max_per_img=100), rcnn=dict(sampler=dict(num=64))),  # few objects an image
    test_cfg=dict(rpn=dict(max_per_img=100), rcnn=dict(max_per_img=20)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=size, ratio_range=(0.75, 1.25), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),  # after resizing: the truth keeps its size
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
names = dict(classes=classes, palette=[(220, 20, 60), (60, 180, 75), (0, 130, 200)])
train_dataloader = dict(
    dataset=dict(data_root=root, metainfo=names, data_prefix=dict(img='scenes/train/'), pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(data_root=root, metainfo=names, data_prefix=dict(img='scenes/val/'), pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

max_epochs = 12  # for minutes on one core
train_cfg = dict(max_epochs=max_epochs, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
