"""A QSD network of 1.2 M parameters for images of 32 px and 10 classes."""

_base_ = './qsd.py'

arch = dict(
    family='qsd',
    widths=(16, 32, 64, 96, 128),  # two thirds to a half of qsd-8m's, for two cores
    depths=(0, 1, 1, 2, 1),  # none at full size, where blocks cost most
    num_heads=8,
    strides=(1, 2, 2, 2, 1),  # tokens on a grid of 4 x 4
    stem_kernel=3,  # 7 is for images of 224 px
    layer_scale=0.1,  # 1e-6 is for hundreds of epochs
)
model = dict(backbone=dict(arch=arch), head=dict(num_classes=10, in_channels=128))
