"""CIFAR-10 as mmpretrain reads and downloads it, held in memory; crops and flips of whole batches on their device."""

_base_ = './cifar10.py'

# What RandomCrop and RandomFlip of a pipeline would do, for each image by itself.
data_preprocessor = dict(type='AugmentingClsDataPreprocessor', crop_padding=4, flip_prob=0.5)
train_pipeline = [dict(type='PackInputs')]
loader = dict(num_workers=0, collate_fn=dict(type='collate_images'))  # no images to wait for, so no workers

train_dataloader = dict(
    **loader,
    dataset=dict(
        _delete_=True,
        type='InMemoryImages',
        source=dict(type='CIFAR10', data_root='data/cifar10', split='train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    **loader,
    dataset=dict(
        _delete_=True,
        type='InMemoryImages',
        source=dict(type='CIFAR10', data_root='data/cifar10', split='test', test_mode=True),
        test_mode=True,
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
