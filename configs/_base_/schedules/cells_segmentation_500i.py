"""AdamW, 500 iterations, 50 of warm-up and a half-cosine: batches of 8, under half an hour on two cores."""

max_iters = 500  # for a quarter of an hour on two cores

optim_wrapper = dict(
    type='OptimWrapper',
    # Twice ADE20K's rate: from scratch, few iterations.
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    # As the papers: norms, layer scales and LSQ steps do not decay; nor does what neurons learn.
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=50, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=250)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
