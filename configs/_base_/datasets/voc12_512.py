"""VOC2012, prepared and tested as ADE20K in ade20k_512.py. data/VOCdevkit/VOC2012"""

_base_ = './ade20k_512.py'

# Label 0 is a class here, the background.
own_steps = dict(LoadAnnotations=dict(type='LoadAnnotations'), CheckLabels=dict(type='CheckLabels', num_classes=21))
train_pipeline = [own_steps.get(step['type'], step) for step in _base_.train_pipeline]
test_pipeline = [own_steps.get(step['type'], step) for step in _base_.test_pipeline]

voc = dict(
    type='PascalVOCDataset',
    data_root='data/VOCdevkit/VOC2012',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
)
train_dataloader = dict(
    dataset=dict(voc, _delete_=True, ann_file='ImageSets/Segmentation/train.txt', pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(voc, _delete_=True, ann_file='ImageSets/Segmentation/val.txt', pipeline=test_pipeline)
)
test_dataloader = val_dataloader
