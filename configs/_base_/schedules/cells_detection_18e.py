"""AdamW, 18 epochs, 100 iterations of warm-up and a half-cosine: 300 images, under an hour on two cores."""

max_epochs = 18  # for half an hour on two cores

optim_wrapper = dict(
    type='OptimWrapper',
    # Five times COCO's rate: from scratch, few epochs.
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    # As the papers: norms, layer scales and LSQ steps do not decay; nor does what neurons learn.
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
    clip_grad=dict(max_norm=10.0),  # from scratch: guards the first iterations
)
param_scheduler = [
    # COCO's 1000 iterations of warm-up would be most of the 1350 of this training.
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=6)  # validation takes one image at a time
val_cfg = dict()
test_cfg = dict()
