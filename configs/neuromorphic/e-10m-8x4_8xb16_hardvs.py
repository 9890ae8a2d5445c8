_base_ = [
    '../_base_/models/espike.py',
    '../_base_/datasets/hardvs.py',
    '../_base_/schedules/events_100e.py',
    '../_base_/events_runtime.py',
]

num_steps = 8
model = dict(
    backbone=dict(arch='e-10m', in_channels=2, time_steps=num_steps, levels=4, time_mean=False),
    head=dict(num_classes=300, in_channels=240),
)
train_dataloader = dict(batch_size=16, dataset=dict(num_frames=num_steps))
val_dataloader = dict(dataset=dict(num_frames=num_steps))
test_dataloader = dict(dataset=dict(num_frames=num_steps))
optim_wrapper = dict(optimizer=dict(lr=4e-5 * 128 / 256))
auto_scale_lr = dict(base_batch_size=128)
