"""In which direction a digit moves, T x D = 8 x 4, IELIF, attention per slot, 5 epochs.

python tools/dataset_converters/make_moving_digits_events.py
python tools/train.py configs/neuromorphic/e-micro-per-slot-8x4_1xb16_moving-digits-direction.py
Data: data/moving_digits, simulated by the first line.
Expect: 100.0 % top-1, seed 0; 5 minutes on one core.
"""

_base_ = './e-micro-8x4_1xb16_moving-digits-direction.py'

model = dict(backbone=dict(attention='per_slot'))
