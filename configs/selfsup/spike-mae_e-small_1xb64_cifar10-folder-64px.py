"""Spike-MAE on a laptop: CIFAR-10 at 64 px, 64 patches, 10 epochs.

python tools/train.py configs/selfsup/spike-mae_e-small_1xb64_cifar10-folder-64px.py --work-dir work_dirs/mae
"""

_base_ = [
    '../_base_/models/spike-mae.py',
    '../_base_/datasets/cifar10_folder_64px_mae.py',
    '../_base_/selfsup_runtime.py',
]

model = dict(
    backbone=dict(
        levels=4,
        arch=dict(
            family='espike-large',
            widths=(16, 32, 64, 96),
            depths=(0, 1, 1, 2),
            strides=(2, 2, 2, 1),  # patches of 8 px, tokens on a grid of 8 x 8
            stem_kernel=3,
            num_heads=2,
            layer_scale=None,
        ),
    ),
    neck=dict(num_patches=8 * 8, patch_size=8, embed_dim=96, decoder_embed_dim=64, decoder_depth=2),
    head=dict(patch_size=8),
)
max_epochs = 10
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
randomness = dict(seed=0)
