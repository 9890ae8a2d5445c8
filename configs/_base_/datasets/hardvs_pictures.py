"""HAR-DVS as the released network sees it: drawn pictures made zeros and ones, 224 px, T in a row; test validates.

data/hardvs/{action_001..action_300/SAMPLE/*.png, {train,test}_label.txt}
"""

data_preprocessor = dict(num_classes=300)

train_pipeline = [dict(type='LoadDrawnEvents', training=True), dict(type='PackInputs', input_key='frames')]
test_pipeline = [dict(type='LoadDrawnEvents'), dict(type='PackInputs', input_key='frames')]
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    dataset=dict(type='HARDVSPictures', data_root='data/hardvs', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
    persistent_workers=False,
    drop_last=True,
)
val_dataloader = dict(
    batch_size=16,
    num_workers=8,
    dataset=dict(type='HARDVSPictures', data_root='data/hardvs', split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    persistent_workers=False,
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
