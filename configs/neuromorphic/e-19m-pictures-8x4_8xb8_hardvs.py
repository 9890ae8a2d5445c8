"""e-19m (E-SpikeFormer) on HAR-DVS as published, T x D = 8 x 4: drawn pictures as frames, no membrane carried over.

tools/dist_train.sh configs/neuromorphic/e-19m-pictures-8x4_8xb8_hardvs.py 8 --amp
Data: data/hardvs/{action_001..action_300,{train,val,test}_label.txt}.
Expect: not trained here; T frames are T pictures whose logits are averaged. e-19m-8x4_8xb8_hardvs.py has a state.
"""

_base_ = [
    '../_base_/models/espike.py',
    '../_base_/datasets/hardvs_pictures.py',
    '../_base_/schedules/events_100e.py',
    '../_base_/events_runtime.py',
]

num_steps = 8
# As the released network: a spike is worth 1, and no step knows the one before.
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
    head=dict(num_classes=300, in_channels=360, neuron=neuron),
)
train_dataloader = dict(batch_size=8, dataset=dict(num_frames=num_steps))
val_dataloader = dict(dataset=dict(num_frames=num_steps))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=4e-5 * 64 / 256))
auto_scale_lr = dict(base_batch_size=64)
