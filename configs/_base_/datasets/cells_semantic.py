"""Nuclei under the microscope, two classes (0 background, 1 nucleus), crops of 256 px; tested whole.

data/cells/{images,semantic}/{train,val}
"""

classes = dict(classes=('background', 'nucleus'), palette=[(0, 0, 0), (220, 20, 60)])

ignore_index = 255  # the label of pixels that count nowhere

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='CheckLabels', num_classes=2, ignore_index=ignore_index),
    dict(type='RandomResize', scale=(256, 256), ratio_range=(0.75, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(256, 256)),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='CheckLabels', num_classes=2, ignore_index=ignore_index),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        metainfo=classes,
        data_root='data/cells',
        data_prefix=dict(img_path='images/train', seg_map_path='semantic/train'),
        img_suffix='.png',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        metainfo=classes,
        data_root='data/cells',
        data_prefix=dict(img_path='images/val', seg_map_path='semantic/val'),
        img_suffix='.png',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'], ignore_index=ignore_index)
test_evaluator = val_evaluator
