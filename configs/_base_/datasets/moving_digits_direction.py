"""Direction of motion of simulated digits: events of 32 x 32 pixels in T frames.

python tools/dataset_converters/make_moving_digits_events.py
"""

data_preprocessor = dict(num_classes=4)

# Flips would change the label.
train_pipeline = [
    dict(type='LoadEvents'),
    dict(type='EventsToFrames', split_by='time'),
    dict(type='RandomRoll'),
    dict(type='PackInputs', input_key='frames'),
]
test_pipeline = [
    dict(type='LoadEvents'),
    dict(type='EventsToFrames', split_by='time'),
    dict(type='PackInputs', input_key='frames'),
]
dataset = dict(
    type='EventFiles',
    data_root='data/moving_digits',
    sensor_size=(32, 32),
    classes=('right', 'down', 'left', 'up'),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,  # mmpretrain's own tools would say True, which needs workers
    dataset=dict(ann_file='train_direction.txt', split='train', pipeline=train_pipeline, **dataset),
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=True,
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    persistent_workers=False,  # mmpretrain's own tools would say True, which needs workers
    dataset=dict(ann_file='val_direction.txt', split='val', pipeline=test_pipeline, **dataset),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
del dataset
