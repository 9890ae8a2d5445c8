"""E-SpikeFormer (arXiv 2411.16061), base sizes: real weights, counts of 0 to 4. Configs add preset and last width."""

model = dict(
    type='SpikeImageClassifier',
    backbone=dict(type='SpikeDrivenTransformer', max_spike_count=4, weight_bits=32),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='SpikeLinearClsHead',
        num_classes=1000,
        in_channels=240,
        neuron=dict(type='IELIF', threshold=1.0, scale=1.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
