"""HAR-DVS, 260 x 346 px made 224 x 224, in T frames: data/hardvs/{action_001..action_300, {train,val,test}_label.txt}.

Eight frames of a sample take 3.2 MB.
"""

data_preprocessor = dict(num_classes=300)

train_pipeline = [
    dict(type='LoadEvents'),
    dict(type='EventsToFrames', split_by='time', size=224),
    dict(
        type='AugmentFrames',
        transforms=[
            dict(type='RandomCrop', crop_size=224, padding=16),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        ],
    ),
    dict(type='PackInputs', input_key='frames'),
]
test_pipeline = [
    dict(type='LoadEvents'),
    dict(type='EventsToFrames', split_by='time', size=224),
    dict(type='PackInputs', input_key='frames'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    dataset=dict(type='HARDVS', data_root='data/hardvs', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
    persistent_workers=False,
    drop_last=True,
)
val_dataloader = dict(
    batch_size=16,
    num_workers=8,
    dataset=dict(type='HARDVS', data_root='data/hardvs', split='val', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    persistent_workers=False,
)
test_dataloader = dict(
    batch_size=16,
    num_workers=8,
    dataset=dict(type='HARDVS', data_root='data/hardvs', split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    persistent_workers=False,
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
