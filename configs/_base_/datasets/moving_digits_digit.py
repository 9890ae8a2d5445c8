"""Which digit moves: events of 32 x 32 pixels in T frames; the data of moving_digits_direction.py."""

_base_ = './moving_digits_direction.py'

data_preprocessor = dict(num_classes=10)
digits = tuple('0123456789')
train_dataloader = dict(dataset=dict(ann_file='train_digit.txt', classes=digits))
val_dataloader = dict(dataset=dict(ann_file='val_digit.txt', classes=digits))
test_dataloader = val_dataloader
