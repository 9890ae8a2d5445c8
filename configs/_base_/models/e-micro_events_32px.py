"""An E-SpikeFormer of 0.18 M parameters and 4-bit weights for events of 32 x 32 pixels.

Configs add T and the classes. Time stays in the batch up to the classifier, whose neuron too
carries a membrane.
"""

_base_ = './espike.py'

# Wide where motion is seen, before anything is merged.
arch = dict(
    family='espike',
    widths=(24, 32, 48, 64, 64),
    depths=(0, 0, 0, 1, 0),  # one block of attention: minutes on two cores
    num_heads=4,
    strides=(2, 2, 2, 1, 1),  # tokens on a grid of 4 x 4
    stem_kernel=7,
)
model = dict(
    backbone=dict(arch=arch, in_channels=2, weight_bits=4, time_mean=False),
    head=dict(num_classes=4, in_channels=64, neuron=dict(threshold=1.0, scale=1.0)),
)
