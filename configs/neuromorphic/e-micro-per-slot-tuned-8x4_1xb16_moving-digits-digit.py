"""Which digit moves, T x D = 8 x 4: a network trained with sums is tuned to attention per slot, 2 epochs.

python tools/dataset_converters/make_moving_digits_events.py
python tools/train.py configs/neuromorphic/e-micro-8x4_1xb16_moving-digits-digit.py
python tools/train.py configs/neuromorphic/e-micro-per-slot-tuned-8x4_1xb16_moving-digits-digit.py
Data: data/moving_digits, simulated by the first line; the checkpoint is what the second line leaves.
Expect: 63.0 % top-1 from 58.5 %, seed 0; 128 s on one core.
"""

_base_ = './e-micro-per-slot-8x4_1xb16_moving-digits-digit.py'

load_from = 'work_dirs/e-micro-8x4_1xb16_moving-digits-digit/epoch_10.pth'
max_epochs = 2
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=0.2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0.2, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
