"""e-19m (E-SpikeFormer) on HAR-DVS, T x D = 8 x 4.

tools/dist_train.sh configs/neuromorphic/e-19m-8x4_8xb8_hardvs.py 8 --amp
Data: data/hardvs/{action_001..action_300,{train,val,test}_label.txt}.
Expect: not trained here; the paper's recipe for E-SpikeFormer, 100 epochs.
"""

_base_ = [
    '../_base_/models/espike.py',
    '../_base_/datasets/hardvs.py',
    '../_base_/schedules/events_100e.py',
    '../_base_/events_runtime.py',
]

num_steps = 8
model = dict(
    backbone=dict(arch='e-19m', in_channels=2, time_steps=num_steps, max_spike_count=4, time_mean=False),
    head=dict(num_classes=300, in_channels=360),
)
train_dataloader = dict(batch_size=8, dataset=dict(num_frames=num_steps))
val_dataloader = dict(dataset=dict(num_frames=num_steps))
test_dataloader = dict(dataset=dict(num_frames=num_steps))
optim_wrapper = dict(optimizer=dict(lr=4e-5 * 64 / 256))
auto_scale_lr = dict(base_batch_size=64)
