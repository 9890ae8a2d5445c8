"""Spike-MAE on a laptop: CIFAR-10 at 64 px, 64 patches, 10 epochs.

python tools/train.py configs/selfsup/spike-mae_e-small_1xb64_cifar10-folder-64px.py --work-dir work_dirs/mae
Data: data/cifar10/train/CLASS/*.jpg, labels unused.
Expect: reconstructions.png after each epoch; 10 to 25 minutes for 10,000 images on a busy core.
"""

_base_ = [
    '../_base_/models/spike-mae.py',
    '../_base_/datasets/cifar10_folder_64px_mae.py',
    '../_base_/selfsup_runtime.py',
]

model = dict(
    backbone=dict(
        max_spike_count=4,  # as the classifier that starts from it
        arch=dict(
            family='espike-large',
            widths=(16, 32, 64, 96),
            depths=(0, 1, 1, 2),
            strides=(2, 2, 2, 1),  # patches of 8 px, tokens on a grid of 8 x 8
            stem_kernel=3,
            num_heads=2,
            layer_scale=None,  # comes with fine-tuning
        ),
    ),
    neck=dict(num_patches=8 * 8, patch_size=8, embed_dim=96, decoder_embed_dim=64, decoder_depth=2),  # light
    head=dict(patch_size=8),
)
max_epochs = 10  # for under half an hour with 10,000 images
optim_wrapper = dict(
    # The paper's optimizer; its rule would give 3.75e-5 for a batch of 64, too little for ten epochs.
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
    # As the papers: norms, layer scales and LSQ steps do not decay; nor does what neurons learn.
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
randomness = dict(seed=0)
