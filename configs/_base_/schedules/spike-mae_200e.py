"""Spike-MAE's ImageNet recipe: AdamW, lr 1.5e-4 per 256 images, total batch 2048, 200 epochs, 20 of warm-up.

Mixed precision as in the paper: tools/train.py CONFIG --amp. Another total batch: --auto-scale-lr.
"""

max_epochs, warmup_epochs = 200, 20

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1.5e-4 * 2048 / 256, betas=(0.9, 0.95), weight_decay=0.05),
    # Biases and norms, all one-dimensional, the mask token and what neurons learn do not decay.
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={'neck.mask_token': dict(decay_mult=0.0), 'neuron.': dict(weight_decay=0.0)},
    ),
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
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=2048)
