"""E-SpikeFormer of 83 M parameters on ImageNet: the paper's fine-tuning after Spike-MAE, 150 epochs.

tools/dist_train.sh configs/classification/e-83m_8xb128_in1k.py 8 --amp
Data: data/imagenet/{train,val}/CLASS/*.JPEG, and the file of configs/selfsup/spike-mae_e-83m_8xb256_in1k.py, named
    here or with --cfg-options: model.backbone.init_cfg = dict(type='Pretrained', checkpoint=FILE,
    prefix='backbone.').
Expect: 84.0 % top-1 in the paper (T x D = 1 x 8); not trained here.
"""

_base_ = [
    '../_base_/models/espike-large.py',
    '../_base_/datasets/imagenet_crop232.py',
    '../_base_/schedules/espike-large_150e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='e-83m'), head=dict(in_channels=512))
train_dataloader = dict(batch_size=128)
