"""E-SpikeFormer's HAR-DVS recipe: AdamW, lr 4e-5 per 256 samples, 100 epochs, gradients clipped at 1, EMA 0.999.

Configs give the rate for their batch; for another one --auto-scale-lr. Mixed precision: tools/train.py CONFIG --amp.
"""

max_epochs, warmup_epochs = 100, 10

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=4e-5, weight_decay=1e-2),
    # Biases, norms, layer scales and LSQ steps, all one-dimensional, do not decay; nor does what neurons learn.
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
    clip_grad=dict(max_norm=1.0),
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
auto_scale_lr = dict(base_batch_size=256)
custom_hooks = [dict(type='EMAHook', momentum=1 - 0.999, priority='ABOVE_NORMAL')]
