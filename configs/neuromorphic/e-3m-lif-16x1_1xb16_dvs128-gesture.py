"""The binary leaky neuron with hard reset in place of IELIF: the usual baseline, 16 steps of one spike."""

_base_ = './e-3m-16x1_1xb16_dvs128-gesture.py'

neuron = dict(type='LIF', threshold=0.5, tau=2.0, surrogate='atan', alpha=2.0)
model = dict(backbone=dict(neuron=neuron), head=dict(neuron=dict(_delete_=True, **neuron)))
