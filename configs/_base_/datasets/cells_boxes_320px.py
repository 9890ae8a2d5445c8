"""Boxes of nuclei under the microscope, COCO annotations; trained on crops of 320 px.

data/cells/{images/{train,val},annotations/instances_{train,val}.json}
For data of your own only the first lines differ: docs/en/own_data.md.
"""

data_root = 'data/cells/'
classes = ('nucleus',)  # as the annotation files name them
train = dict(ann_file='annotations/instances_train.json', data_prefix=dict(img='images/train/'))
val = dict(ann_file='annotations/instances_val.json', data_prefix=dict(img='images/val/'))
scale = (512, 512)  # images are read as large as fits in here: nuclei of 8 px at twice their size
crop_size = (320, 320)  # what training sees of one

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),  # after resizing: the truth keeps its size
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
data = dict(type='CocoDataset', data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**data, **train, filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**data, **val, test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + val['ann_file'], metric='bbox')
test_evaluator = val_evaluator
