"""The shipped CIFAR-10 network, tuned to attention per slot: one epoch of 25,000 images it knows.

python tools/train.py configs/classification/qsd-4m-45k-per-slot-tuned_1xb128_cifar10-folder.py --amp
Data: data/cifar10/{train,val}/CLASS/*.jpg; the last 500 training images of each class are for validation.
Expect: 86.44 % top-1 on those 5,000, 86.00 % before, seed 0; 215 s on one core.
"""

_base_ = './qsd-4m-45k-per-slot_1xb128_cifar10-folder.py'

load_from = 'qsd-4m-45k_1xb128_cifar10-folder'  # comes with the package, trained with sums
train_dataloader = dict(dataset=dict(skip_last_per_class=2500))
steps = 195
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=20),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=20, end=steps),
]
train_cfg = dict(max_epochs=1)
