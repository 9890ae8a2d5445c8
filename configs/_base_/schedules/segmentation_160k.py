"""160,000 iterations with AdamW, total batch 16: lr 1e-3 (heads twice that), linear decay after 1,500 of warm-up.

Another total batch: --auto-scale-lr.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.005),
    # What neurons learn does not decay.
    paramwise_cfg=dict(custom_keys={'head': dict(lr_mult=2.0), 'neuron.': dict(weight_decay=0.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=16)
