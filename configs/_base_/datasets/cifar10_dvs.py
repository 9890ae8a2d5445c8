"""CIFAR10-DVS as published (CLASS/*.aedat) or as SpikingJelly prepares it, 128 px, in T frames: data/cifar10_dvs.

The first 90 % of each class train, the rest test.
"""

data_preprocessor = dict(num_classes=10)

train_pipeline = [
    dict(type='LoadEvents'),
    dict(type='EventsToFrames', split_by='number'),
    dict(
        type='AugmentFrames',
        transforms=[
            dict(type='RandomCrop', crop_size=128, padding=12),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        ],
    ),
    dict(type='PackInputs', input_key='frames'),
]
test_pipeline = [
    dict(type='LoadEvents'),
    dict(type='EventsToFrames', split_by='number'),
    dict(type='PackInputs', input_key='frames'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    dataset=dict(type='CIFAR10DVS', data_root='data/cifar10_dvs', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
    persistent_workers=False,
    drop_last=True,
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    dataset=dict(type='CIFAR10DVS', data_root='data/cifar10_dvs', split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    persistent_workers=False,
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
