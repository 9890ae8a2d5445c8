"""COCO boxes, with the augmentation of coco_instance_ms-crop.py."""

_base_ = './coco_instance_ms-crop.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(step, with_mask=False) if step['type'] == 'LoadAnnotations' else step for step in _base_.train_pipeline
        ]
    )
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(step, with_mask=False) if step['type'] == 'LoadAnnotations' else step for step in _base_.test_pipeline
        ]
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
