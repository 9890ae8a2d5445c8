"""E-SpikeFormer of 0.8 M parameters on CIFAR-10 at 64 px: spike-mae_e-small_* without pre-training.

python tools/train.py configs/classification/e-small_1xb64_cifar10-folder-64px.py
Data: data/cifar10/{train,val}/CLASS/*.jpg.
Expect: 53.9 % top-1 after 6 epochs on 10,000 images, 10 to 25 minutes on a busy core; the 10 epochs were not trained
    here.
"""

_base_ = [
    '../_base_/models/espike.py',
    '../_base_/datasets/cifar10_folder_64px.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(
            family='espike-large',
            widths=(16, 32, 64, 96),  # a quarter of e-83m's and less, for two cores
            depths=(0, 1, 1, 2),  # none at full size, where blocks cost most
            strides=(2, 2, 2, 1),  # tokens on a grid of 8 x 8
            num_heads=2,
            stem_kernel=3,  # 7 is for images of 224 px
            layer_scale=0.1,  # 1e-6 is for hundreds of epochs
        )
    ),
    head=dict(num_classes=10, in_channels=96, neuron=dict(rounding='half_up')),  # as the large sizes
)

max_epochs = 10  # for under half an hour with 10,000 images
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
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=2)
val_cfg = dict()
test_cfg = dict()
randomness = dict(seed=0)
