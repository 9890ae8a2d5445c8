_base_ = './e-micro-8x4_1xb16_moving-digits-digit.py'

neuron = dict(type='LIF', threshold=0.5, tau=2.0, surrogate='atan', alpha=2.0)
model = dict(
    backbone=dict(neuron=neuron, levels=1),
    head=dict(neuron=dict(_delete_=True, **neuron)),
)
