"""HAR-DVS as published: no membrane is carried over, spikes are worth 1, layer scales, drawn pictures as frames.

So T frames are T pictures whose logits are averaged; e-19m-8x4_8xb8_hardvs.py is the network with a state.
"""

_base_ = [
    '../_base_/models/espike.py',
    '../_base_/datasets/hardvs_pictures.py',
    '../_base_/schedules/events_100e.py',
    '../_base_/events_runtime.py',
]

num_steps = 8
neuron = dict(type='IELIF', threshold=1.0, scale=1.0, rounding='half_even', time_steps=1)
model = dict(
    backbone=dict(
        arch=dict(preset='e-19m', layer_scale=1e-6),
        in_channels=2,
        time_steps=num_steps,
        max_spike_count=4,
        neuron=neuron,
        time_mean=False,
    ),
    head=dict(num_classes=300, in_channels=360, time_steps=num_steps, max_spike_count=4, neuron=neuron),
)
train_dataloader = dict(batch_size=8, dataset=dict(num_frames=num_steps))
val_dataloader = dict(dataset=dict(num_frames=num_steps))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=4e-5 * 64 / 256))
auto_scale_lr = dict(base_batch_size=64)
