"""AdamW, 5 epochs, one of warm-up and a half-cosine: minutes on two cores."""

max_epochs = 5  # two to three minutes on two cores

optim_wrapper = dict(
    # A high rate: a network of 0.18 M parameters, few epochs, batches of 16.
    optimizer=dict(type='AdamW', lr=6e-3, weight_decay=0.05),
    # As the papers: norms, layer scales and LSQ steps do not decay; nor does what neurons learn.
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
