"""Your own images and label images in folders, from scratch, 600 iterations; the example draws its data.

python tools/dataset_converters/make_shapes.py
python tools/train.py configs/segmentation/semantic-fpn_qsd-small_1xb4_shapes-64x64.py
Data: data/shapes/{scenes,masks}/{train,val}/*.png, drawn by the first line.
Expect: mIoU 43.1, 91.8 % of the pixels right, seed 0; two to five minutes on one core.
"""

_base_ = './semantic-fpn_qsd-small_1xb8-500i_cells-256x256.py'

classes = ('background', 'circle', 'square', 'triangle')  # the label image says 0, 1, 2, 3
ignore_index = 255  # the label of pixels that count nowhere; said here, used below
size = (64, 64)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='CheckLabels', num_classes=len(classes), ignore_index=ignore_index),
    dict(type='RandomResize', scale=size, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='CheckLabels', num_classes=len(classes), ignore_index=ignore_index),
    dict(type='PackSegInputs'),
]
data = dict(
    data_root='data/shapes',
    metainfo=dict(_delete_=True, classes=classes, palette=[(0, 0, 0), (220, 20, 60), (60, 180, 75), (0, 130, 200)]),
)
model = dict(
    data_preprocessor=dict(size=size, seg_pad_val=ignore_index),
    decode_head=dict(num_classes=len(classes), ignore_index=ignore_index),
)
val_evaluator = dict(ignore_index=ignore_index)
test_evaluator = val_evaluator
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        **data, data_prefix=dict(img_path='scenes/train', seg_map_path='masks/train'), pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    dataset=dict(**data, data_prefix=dict(img_path='scenes/val', seg_map_path='masks/val'), pipeline=test_pipeline)
)
test_dataloader = val_dataloader

max_iters = 600  # for minutes on one core: twice as many reach more
train_cfg = dict(max_iters=max_iters, val_interval=200)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=20, end=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=200))
