"""e-small-1k_1xb64_cifar10-folder-64px.py started from Spike-MAE, with learning rates that decay by layer.

python tools/train.py configs/selfsup/spike-mae_e-small_1xb64_cifar10-folder-64px.py --work-dir work_dirs/mae --amp
python tools/train.py configs/classification/e-small-mae-1k_1xb64_cifar10-folder-64px.py --amp
Data: data/cifar10/{train,val}/CLASS/*.jpg, and work_dirs/mae of the first line.
Expect: 40.0 % top-1 after 6 epochs of pre-training (docs/studies/mae.yml), seed 0; four minutes on one core.
"""

_base_ = './e-small-1k_1xb64_cifar10-folder-64px.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae/epoch_10.pth', prefix='backbone.'))
)
optim_wrapper = dict(constructor='LearningRateDecayOptimWrapperConstructor', paramwise_cfg=dict(layer_decay_rate=0.75))
