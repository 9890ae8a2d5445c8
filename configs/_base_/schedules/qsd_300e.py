"""QSD-Transformer's ImageNet recipe: LAMB, lr 6e-4 per 256 images, total batch 1568, 300 epochs, EMA 0.99996.

Mixed precision as in the paper: tools/train.py CONFIG --amp. Another total batch: --auto-scale-lr.
"""

max_epochs, warmup_epochs = 300, 15

optim_wrapper = dict(
    optimizer=dict(type='Lamb', lr=6e-4 * 1568 / 256, weight_decay=0.05),
    # Biases, norms, layer scales and LSQ steps, all one-dimensional, do not decay; nor does what neurons learn.
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
auto_scale_lr = dict(base_batch_size=1568)
custom_hooks = [dict(type='EMAHook', momentum=1 - 0.99996, priority='ABOVE_NORMAL')]
