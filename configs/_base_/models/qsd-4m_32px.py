"""A network of 4.5 M parameters for images of 32 px and 10 classes: 4-bit weights, counts of 0 to 4, for two cores.

E-SpikeFormer's large kind of blocks: dense 3x3 convolutions, no depthwise ones, which take most time on a CPU.
"""

_base_ = './qsd.py'

neuron = dict(type='IELIF', threshold=0.5, scale=0.5, rounding='half_up')  # counts for potentials up to 2
arch = dict(
    family='espike-large',
    widths=(32, 64, 128, 256),
    depths=(0, 1, 1, 2),  # none at full size, where blocks cost most
    strides=(1, 2, 2, 2),  # tokens on a grid of 4 x 4
    stem_kernel=3,  # 7 is for images of 224 px
    layer_scale=0.1,  # 1e-6 is for hundreds of epochs
)
model = dict(
    # Compact saving is for memory, which images of 32 px need little of, and takes an eighth of the time on a CPU.
    backbone=dict(arch=arch, neuron=neuron, compact_saving=False),
    head=dict(num_classes=10, in_channels=256, neuron=neuron),
)
