"""A network of 9 M parameters for images of 32 px and 10 classes: 4-bit weights, counts of 0 to 4, for a GPU.

As qsd-4m_32px, wider, and with a block at full size.
"""

_base_ = './qsd-4m_32px.py'

arch = dict(widths=(64, 128, 192, 320), depths=(1, 1, 1, 2))
model = dict(backbone=dict(arch=arch), head=dict(in_channels=320))
