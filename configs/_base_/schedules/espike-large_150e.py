"""E-SpikeFormer's fine-tuning recipe, large sizes: LAMB, lr 6e-4 per 256 images, total batch 1024, 150 epochs, EMA.

From block to block towards the image, the learning rate falls to 3/4.

Mixed precision as in the paper: tools/train.py CONFIG --amp. Another total batch: --auto-scale-lr.
"""

max_epochs, warmup_epochs = 150, 10

optim_wrapper = dict(
    optimizer=dict(type='Lamb', lr=6e-4 * 1024 / 256, weight_decay=0.05),
    # Biases, norms and layer scales, all one-dimensional, do not decay; nor does what neurons learn.
    constructor='LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75, flat_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
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
auto_scale_lr = dict(base_batch_size=1024)
custom_hooks = [dict(type='EMAHook', momentum=1 - 0.99996, priority='ABOVE_NORMAL')]
