"""The same network, started from Spike-MAE (train configs/selfsup/spike-mae_e-small_* first), with decay by layer.

python tools/train.py configs/classification/e-small-mae_1xb64_cifar10-folder-64px.py
"""

_base_ = './e-small_1xb64_cifar10-folder-64px.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae/epoch_10.pth', prefix='backbone.'))
)
optim_wrapper = dict(constructor='LearningRateDecayOptimWrapperConstructor', paramwise_cfg=dict(layer_decay_rate=0.75))
