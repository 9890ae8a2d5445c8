"""e-small_1xb64_cifar10-folder-64px.py with 100 labelled images of each class, 40 epochs.

python tools/train.py configs/classification/e-small-1k_1xb64_cifar10-folder-64px.py --amp
Data: data/cifar10/{train,val}/CLASS/*.jpg.
Expect: 42.4 % top-1, seed 0; four minutes on one core.
"""

_base_ = './e-small_1xb64_cifar10-folder-64px.py'

data_preprocessor = dict(type='AugmentingClsDataPreprocessor', crop_padding=8, flip_prob=0.5)
source = dict(type='CustomDataset', data_root='data/cifar10', data_prefix='train')
train_dataloader = dict(
    num_workers=0,  # images are held in memory
    collate_fn=dict(type='collate_images'),
    dataset=dict(
        _delete_=True,
        type='InMemoryImages',
        source=source,
        last_per_class=100,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=64), dict(type='PackInputs')],
    ),
)

max_epochs = 40  # as many iterations as four epochs of all images
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=4, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=4, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
