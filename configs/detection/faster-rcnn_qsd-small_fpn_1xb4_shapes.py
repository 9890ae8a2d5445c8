"""Your own boxes without masks, from scratch, 12 epochs; the example draws its data and converts it from YOLO's format.

python tools/dataset_converters/make_shapes.py
python tools/dataset_converters/to_coco.py yolo data/shapes/yolo/train --images data/shapes/scenes/train \
    --out data/shapes/boxes --part train
python tools/dataset_converters/to_coco.py yolo data/shapes/yolo/val --images data/shapes/scenes/val \
    --out data/shapes/boxes --part val
python tools/train.py configs/detection/faster-rcnn_qsd-small_fpn_1xb4_shapes.py
Data: data/shapes/{scenes/{train,val},boxes/instances_{train,val}.json}, made by the lines before.
Expect: box AP 3.3, AP50 12.5 after 12 epochs, seed 0, so few images show the steps; four minutes on one core.
"""

_base_ = './faster-rcnn_qsd-small_fpn_1xb4-18e_cells-320px.py'

data_root = 'data/shapes/'
classes = ('circle', 'square', 'triangle')  # as the annotation files name them
train = dict(ann_file='boxes/instances_train.json', data_prefix=dict(img='scenes/train/'))
val = dict(ann_file='boxes/instances_val.json', data_prefix=dict(img='scenes/val/'))
scale = (64, 64)  # images are read as large as fits in here; (320, 320) for photographs

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.25), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),  # after resizing: the truth keeps its size
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
data = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(dataset=dict(**data, **train, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**data, **val, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val['ann_file'])
test_evaluator = val_evaluator
model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))

# At 1e-3, the base's, the box head saturated on these few small images and found nothing.
optim_wrapper = dict(optimizer=dict(lr=3e-4))
max_epochs = 12  # for minutes on one core
train_cfg = dict(max_epochs=max_epochs, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
