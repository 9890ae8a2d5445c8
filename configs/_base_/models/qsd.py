"""QSD-Transformer (arXiv 2501.13492): 4-bit weights, counts of 0 to 4. Configs add the preset and its last width."""

model = dict(
    type='SpikeImageClassifier',
    backbone=dict(type='SpikeDrivenTransformer', max_spike_count=4, weight_bits=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='SpikeLinearClsHead',
        num_classes=1000,
        in_channels=360,
        neuron=dict(type='IELIF', threshold=0.25, scale=0.25),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
