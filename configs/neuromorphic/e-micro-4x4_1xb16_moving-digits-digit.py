"""Which digit moves, T x D = 4 x 4, IELIF, 10 epochs.

python tools/dataset_converters/make_moving_digits_events.py
python tools/train.py configs/neuromorphic/e-micro-4x4_1xb16_moving-digits-digit.py
Data: data/moving_digits, simulated by the first line.
Expect: 51.8 % top-1, seed 0; 171 s on one core, or less: it was busy.
"""

_base_ = [
    '../_base_/models/e-micro_events_32px.py',
    '../_base_/datasets/moving_digits_digit.py',
    '../_base_/schedules/moving_digits_10e.py',
    '../_base_/events_runtime.py',
]

num_steps = 4
model = dict(backbone=dict(time_steps=num_steps), head=dict(num_classes=10))
train_dataloader = dict(dataset=dict(num_frames=num_steps))
val_dataloader = dict(dataset=dict(num_frames=num_steps))
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=20))
randomness = dict(seed=0)
