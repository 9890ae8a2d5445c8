"""In which direction a digit moves, T x D = 1 x 4, IELIF, 5 epochs.

One frame of all events cannot tell a direction from the opposite one.

python tools/dataset_converters/make_moving_digits_events.py
python tools/train.py configs/neuromorphic/e-micro-1x4_1xb16_moving-digits-direction.py
Data: data/moving_digits, simulated by the first line.
Expect: 50.0 % top-1, seed 0; 61 s on one core, or less: it was busy.
"""

_base_ = './e-micro-4x4_1xb16_moving-digits-direction.py'

num_steps = 1
model = dict(backbone=dict(time_steps=num_steps))
train_dataloader = dict(dataset=dict(num_frames=num_steps))
val_dataloader = dict(dataset=dict(num_frames=num_steps))
test_dataloader = val_dataloader
