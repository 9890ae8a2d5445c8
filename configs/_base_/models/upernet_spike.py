"""mmseg's UPerNet with spiking backbone and head, and no neck; configs add the preset and the head's in_channels.

The backbone's maps have strides 4, 8, 16 and 16: the head brings them all to the first one's size.
"""

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(type='SpikeDrivenTransformer', out_indices=(1, 2, 3, 4)),
    decode_head=dict(
        type='SpikeUPerHead',
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=128,  # as Semantic FPN here; mmseg's 512 makes the whole network seven times as costly
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type='SyncBN', requires_grad=True),  # plain batch norm in a single process
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
