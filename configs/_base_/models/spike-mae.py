"""Spike-MAE (arXiv 2411.16061) for images of 224 px: half of the patches masked, a light ViT decoder.

Configs add preset and width. Layer scale comes with fine-tuning.
"""

model = dict(
    type='SpikeMAE',
    mask_ratio=0.5,
    backbone=dict(type='SpikeDrivenTransformer', max_spike_count=8, weight_bits=32),
    neck=dict(
        type='SpikeMAEDecoder',
        num_patches=14 * 14,
        patch_size=16,
        embed_dim=512,
        decoder_embed_dim=256,
        decoder_depth=4,
        decoder_num_heads=4,
    ),
    head=dict(
        type='MAEPretrainHead',
        norm_pix=True,
        patch_size=16,
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
)
