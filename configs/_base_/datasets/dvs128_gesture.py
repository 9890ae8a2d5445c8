"""DVS128 Gesture, 128 px, in T frames: data/dvs128_gesture, as published (DvsGesture/user*.aedat) or
as SpikingJelly prepares it (events_np/{train,test}/{0..10}/*.npz).

Frames that are ready: source='frames_number_16_split_by_number' and LoadEventFrames in place of the first two steps.
"""

data_preprocessor = dict(num_classes=11)

# No flips: left and right hands are different classes.
train_pipeline = [
    dict(type='LoadEvents'),
    dict(type='EventsToFrames', split_by='number'),
    dict(type='AugmentFrames', transforms=[dict(type='RandomCrop', crop_size=128, padding=12)]),
    dict(type='PackInputs', input_key='frames'),
]
test_pipeline = [
    dict(type='LoadEvents'),
    dict(type='EventsToFrames', split_by='number'),
    dict(type='PackInputs', input_key='frames'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    dataset=dict(type='DVS128Gesture', data_root='data/dvs128_gesture', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
    persistent_workers=False,
    drop_last=True,
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    dataset=dict(type='DVS128Gesture', data_root='data/dvs128_gesture', split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    persistent_workers=False,
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
