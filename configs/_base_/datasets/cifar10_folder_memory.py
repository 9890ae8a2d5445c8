"""CIFAR-10 in folders, data/cifar10/{train,val}/CLASS/*.jpg, held in memory.

The last 500 training images of each class are for validation, so that those in val are met in the test alone.
"""

_base_ = './cifar10_memory.py'

data_preprocessor = dict(to_rgb=True)  # files are read as BGR
train_pipeline = [dict(type='LoadImageFromFile'), *_base_.train_pipeline]  # loaded once, when the run begins
test_pipeline = [dict(type='LoadImageFromFile'), *_base_.test_pipeline]

held_out = 500  # of each class
train_images = dict(_delete_=True, type='CustomDataset', data_root='data/cifar10', data_prefix='train')
test_images = dict(_delete_=True, type='CustomDataset', data_root='data/cifar10', data_prefix='val')
train_dataloader = dict(
    dataset=dict(source=train_images, skip_last_per_class=held_out, pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(source=train_images, last_per_class=held_out, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(source=test_images, pipeline=test_pipeline))
