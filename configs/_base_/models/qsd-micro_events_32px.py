"""A QSD network of 0.1 M parameters for events of 32 x 32 pixels. Configs add T, to backbone and head, and the classes.

Time stays in the batch up to the classifier: its neuron too carries a membrane.
"""

_base_ = './qsd.py'

arch = dict(
    family='qsd',
    widths=(8, 16, 32, 48, 48),
    depths=(0, 1, 1, 1, 0),
    num_heads=4,
    strides=(1, 2, 2, 1, 1),
    stem_kernel=3,
    layer_scale=0.1,  # 1e-6 is for hundreds of epochs
)
model = dict(
    backbone=dict(arch=arch, in_channels=2, time_mean=False),
    head=dict(num_classes=4, in_channels=48),
)
