"""AdamW, 28 epochs, one of warm-up and a half-cosine: under 25 minutes for 10,000 images on two cores."""

max_epochs = 28  # for under half an hour with 10,000 images on two cores

optim_wrapper = dict(
    # AdamW: the papers' LAMB is for batches of a thousand and more. A high rate, for few epochs from scratch.
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
    # As the papers: norms, layer scales and LSQ steps do not decay; nor does what neurons learn.
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=2)  # each validation takes time from the half hour
val_cfg = dict()
test_cfg = dict()
