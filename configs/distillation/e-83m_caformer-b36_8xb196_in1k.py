"""E-SpikeFormer of 83 M parameters on ImageNet, taught by CAFormer-B36: the paper's recipe, 100 epochs.

tools/dist_train.sh configs/distillation/e-83m_caformer-b36_8xb196_in1k.py 8 --amp
Data: data/imagenet/{train,val}/CLASS/*.JPEG; timm downloads the teacher.
Expect: not trained here, and no figure of the paper is for this teacher alone.
"""

_base_ = '../classification/e-83m_8xb128_in1k.py'

max_epochs, warmup_epochs = 100, 5
model = dict(
    type='DistilledClassifier',
    teacher=dict(type='TimmClassifier', model_name='caformer_b36.sail_in22k_ft_in1k', pretrained=True),
    distillation=[dict(type='HardLogitDistillation', weight=0.5)],
    label_weight=0.5,
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.5), dict(type='CutMix', alpha=1.0)]),
)
train_dataloader = dict(batch_size=196)
optim_wrapper = dict(
    optimizer=dict(lr=1e-3 * 1568 / 256),
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, flat_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)}),
)
param_scheduler = [
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
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=1568)
