"""e-5m (E-SpikeFormer) on CIFAR10-DVS, T x D = 8 x 4.

python tools/train.py configs/neuromorphic/e-5m-8x4_1xb32_cifar10-dvs.py
Data: data/cifar10_dvs/events_np/CLASS, as SpikingJelly prepares it.
Expect: not trained here; the recipe, 100 epochs, is our own.
"""

_base_ = [
    '../_base_/models/espike.py',
    '../_base_/datasets/cifar10_dvs.py',
    '../_base_/schedules/events_small_100e.py',
    '../_base_/events_runtime.py',
]

num_steps = 8
model = dict(
    backbone=dict(arch='e-5m', in_channels=2, time_steps=num_steps, max_spike_count=4, time_mean=False),
    head=dict(num_classes=10, in_channels=192),
)
train_dataloader = dict(batch_size=32, dataset=dict(num_frames=num_steps))
val_dataloader = dict(dataset=dict(num_frames=num_steps))
test_dataloader = dict(dataset=dict(num_frames=num_steps))
auto_scale_lr = dict(base_batch_size=32)
