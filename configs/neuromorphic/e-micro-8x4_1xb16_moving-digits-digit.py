_base_ = './e-micro-4x4_1xb16_moving-digits-digit.py'

num_steps = 8
model = dict(backbone=dict(time_steps=num_steps))
train_dataloader = dict(dataset=dict(num_frames=num_steps))
val_dataloader = dict(dataset=dict(num_frames=num_steps))
test_dataloader = val_dataloader
