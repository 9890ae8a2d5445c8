"""Recordings of one's own, T x D = 8 x 4, frames of 64 x 64 pixels, 30 epochs: copy it, and change what is marked.

python tools/dataset_converters/events_to_npz.py RECORDINGS data/own_events --window 500ms --val 0.2
python tools/train.py configs/neuromorphic/e-micro-8x4_1xb16_own-events.py
Data: data/own_events/{train,val}.txt and the files that they list, as the first line makes them.
Expect: not trained here; a start for sets of some hundred samples, the recipe is our own.
"""

_base_ = [
    '../_base_/models/e-micro_events_32px.py',
    '../_base_/schedules/moving_digits_5e.py',
    '../_base_/events_runtime.py',
]

# What events_to_npz.py says at its end:
data_root = 'data/own_events'
sensor_size = (128, 128)
classes = ('a', 'b')

num_steps = 8  # T: frames of a sample
frame_size = 64  # the sensor is scaled to this
max_epochs = 30

load = [
    dict(type='LoadEvents'),
    dict(type='EventsToFrames', split_by='time', size=frame_size),
]
pack = dict(type='PackInputs', input_key='frames')
# A flip would make left right: RandomFlip belongs here where that is the same class.
augment = dict(type='AugmentFrames', transforms=[dict(type='RandomCrop', crop_size=frame_size, padding=6)])
dataset = dict(type='EventFiles', data_root=data_root, sensor_size=sensor_size, classes=classes, num_frames=num_steps)

model = dict(backbone=dict(time_steps=num_steps), head=dict(num_classes=len(classes)))
data_preprocessor = dict(num_classes=len(classes))
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=False,
    dataset=dict(ann_file='train.txt', split='train', pipeline=[*load, augment, pack], **dataset),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=False,
    dataset=dict(ann_file='val.txt', split='val', pipeline=[*load, pack], **dataset),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
auto_scale_lr = dict(base_batch_size=16)
randomness = dict(seed=0)
del dataset, load, augment, pack
