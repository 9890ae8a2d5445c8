"""E-SpikeFormer (arXiv 2411.16061), large sizes: real weights, counts of 0 to 8, two heads that share the labels.

Configs add preset and width.
"""

model = dict(
    type='SpikeImageClassifier',
    backbone=dict(type='SpikeDrivenTransformer', max_spike_count=8, weight_bits=32, drop_path_rate=0.1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='SpikeTwoHeadClsHead',
        num_classes=1000,
        in_channels=512,
        neuron=dict(type='IELIF', threshold=1.0, scale=1.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
