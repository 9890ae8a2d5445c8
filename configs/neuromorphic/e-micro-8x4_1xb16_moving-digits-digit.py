"""Which digit moves, T x D = 8 x 4, IELIF, 10 epochs.

python tools/dataset_converters/make_moving_digits_events.py
python tools/train.py configs/neuromorphic/e-micro-8x4_1xb16_moving-digits-digit.py
Data: data/moving_digits, simulated by the first line.
Expect: 58.5 % top-1, seed 0 (64.5 % with earlier code); 286 s on one core, or less: it was busy.
"""

_base_ = './e-micro-4x4_1xb16_moving-digits-digit.py'

num_steps = 8
model = dict(backbone=dict(time_steps=num_steps))
train_dataloader = dict(dataset=dict(num_frames=num_steps))
val_dataloader = dict(dataset=dict(num_frames=num_steps))
test_dataloader = val_dataloader
