"""e-3m (E-SpikeFormer) on DVS128 Gesture, T x D = 8 x 4.

python tools/train.py configs/neuromorphic/e-3m-8x4_1xb16_dvs128-gesture.py
Data: data/dvs128_gesture/events_np/{train,test}/{0..10}, as SpikingJelly prepares it.
Expect: not trained here; the recipe, 100 epochs, is our own.
"""

_base_ = [
    '../_base_/models/espike.py',
    '../_base_/datasets/dvs128_gesture.py',
    '../_base_/schedules/events_small_100e.py',
    '../_base_/events_runtime.py',
]

num_steps = 8
model = dict(
    backbone=dict(arch='e-3m', in_channels=2, time_steps=num_steps, max_spike_count=4, time_mean=False),
    head=dict(num_classes=11, in_channels=128),
)
train_dataloader = dict(batch_size=16, dataset=dict(num_frames=num_steps))
val_dataloader = dict(dataset=dict(num_frames=num_steps))
test_dataloader = dict(dataset=dict(num_frames=num_steps))
