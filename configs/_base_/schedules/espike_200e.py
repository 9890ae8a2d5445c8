"""E-SpikeFormer's ImageNet recipe, base sizes: LAMB, lr 6e-4 per 256 images, total batch 2048, 200 epochs.

Mixed precision as in the paper: tools/train.py CONFIG --amp. Another total batch: --auto-scale-lr.
"""

max_epochs, warmup_epochs = 200, 5

optim_wrapper = dict(
    optimizer=dict(type='Lamb', lr=6e-4 * 2048 / 256, weight_decay=0.05),
    # Biases and norms do not decay; nor does what neurons learn.
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
)
param_scheduler = [
    # From zero; the scheduler multiplies, so zero itself would stay.
    dict(type='LinearLR', start_factor=1e-6, by_epoch=True, end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=2048)
