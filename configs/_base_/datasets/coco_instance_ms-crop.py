"""COCO with masks, DETR's augmentation: shorter side 480 to 800 px, half of the images cropped first.

data/coco/{annotations,train2017,val2017}
"""

_base_ = 'mmdet::_base_/datasets/coco_instance.py'

sides = [(side, 1333) for side in range(480, 801, 32)]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='RandomChoiceResize', scales=sides, keep_ratio=True)],
            [
                dict(type='RandomChoiceResize', scales=[(400, 4200), (500, 4200), (600, 4200)], keep_ratio=True),
                dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True),
                dict(type='RandomChoiceResize', scales=sides, keep_ratio=True),
            ],
        ],
    ),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(persistent_workers=False, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(persistent_workers=False)
test_dataloader = dict(persistent_workers=False)
