"""All events in one frame, which cannot tell a direction from the opposite one."""

_base_ = './e-micro-4x4_1xb16_moving-digits-direction.py'

num_steps = 1
model = dict(backbone=dict(time_steps=num_steps))
train_dataloader = dict(dataset=dict(num_frames=num_steps))
val_dataloader = dict(dataset=dict(num_frames=num_steps))
test_dataloader = val_dataloader
