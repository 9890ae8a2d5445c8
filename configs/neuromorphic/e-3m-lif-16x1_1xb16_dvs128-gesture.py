"""e-3m (E-SpikeFormer) on DVS128 Gesture, T x D = 16 x 1, LIF (leaky, one spike, hard reset) for IELIF.

python tools/train.py configs/neuromorphic/e-3m-lif-16x1_1xb16_dvs128-gesture.py
Data: data/dvs128_gesture/events_np/{train,test}/{0..10}, as SpikingJelly prepares it.
Expect: not trained here; the recipe, 100 epochs, is our own.
"""

_base_ = './e-3m-16x1_1xb16_dvs128-gesture.py'

# Decay and surrogate are SpikingJelly's defaults.
neuron = dict(type='LIF', threshold=0.5, tau=2.0, surrogate='atan', alpha=2.0)
model = dict(backbone=dict(neuron=neuron), head=dict(neuron=dict(_delete_=True, **neuron)))
