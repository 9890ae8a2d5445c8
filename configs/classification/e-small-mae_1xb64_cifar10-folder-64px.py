"""e-small_1xb64_cifar10-folder-64px.py started from Spike-MAE, with learning rates that decay by layer.

python tools/train.py configs/selfsup/spike-mae_e-small_1xb64_cifar10-folder-64px.py --work-dir work_dirs/mae
python tools/train.py configs/classification/e-small-mae_1xb64_cifar10-folder-64px.py
Data: data/cifar10/{train,val}/CLASS/*.jpg, and work_dirs/mae of the first line.
Expect: 49.0 % top-1 after 6 epochs on 10,000 images, 10 to 25 minutes on a busy core; the 10 epochs were not trained
    here.
"""

_base_ = './e-small_1xb64_cifar10-folder-64px.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae/epoch_10.pth', prefix='backbone.'))
)
optim_wrapper = dict(constructor='LearningRateDecayOptimWrapperConstructor', paramwise_cfg=dict(layer_decay_rate=0.75))
