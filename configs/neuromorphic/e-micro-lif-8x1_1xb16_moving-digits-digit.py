"""Which digit moves, T x D = 8 x 1, LIF (leaky, one spike, hard reset), 10 epochs.

python tools/dataset_converters/make_moving_digits_events.py
python tools/train.py configs/neuromorphic/e-micro-lif-8x1_1xb16_moving-digits-digit.py
Data: data/moving_digits, simulated by the first line.
Expect: 59.0 % top-1, seed 0; 381 s on one core, or less: it was busy.
"""

_base_ = './e-micro-8x4_1xb16_moving-digits-digit.py'

# Decay and surrogate are SpikingJelly's defaults.
neuron = dict(type='LIF', threshold=0.5, tau=2.0, surrogate='atan', alpha=2.0)
model = dict(
    backbone=dict(neuron=neuron, max_spike_count=1),
    head=dict(neuron=dict(_delete_=True, **neuron)),
)
