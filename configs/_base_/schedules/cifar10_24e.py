"""AdamW, 24 epochs in batches of 128, two of warm-up and a half-cosine."""

max_epochs = 24

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
    # As the papers: norms, layer scales and LSQ steps do not decay; nor does what neurons learn.
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
