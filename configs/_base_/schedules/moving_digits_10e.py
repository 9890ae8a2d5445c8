"""As moving_digits_5e.py, twice as long: shapes take longer to learn than motion."""

_base_ = './moving_digits_5e.py'

max_epochs = 10  # for minutes on two cores: accuracy is still rising then
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
