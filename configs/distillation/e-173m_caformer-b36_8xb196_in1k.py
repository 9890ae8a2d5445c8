"""e-173m taught as e-83m is."""

_base_ = './e-83m_caformer-b36_8xb196_in1k.py'

model = dict(backbone=dict(arch='e-173m'), head=dict(in_channels=768))
