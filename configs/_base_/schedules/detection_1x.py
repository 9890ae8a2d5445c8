"""12 epochs with AdamW, total batch 16: lr 2e-4, down at 8 and 11, 1000 iterations of warm-up.

Another total batch: --auto-scale-lr.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.05),
    # Norms do not decay; nor does what neurons learn.
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=16)
