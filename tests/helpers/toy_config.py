"""What the tests train; the tests write variants of it."""

custom_imports = dict(imports=['qsdt_mm.engine.hooks', 'toy_parts'])
model = dict(type='ToyModel')
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='ToyData'),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ToyData', augment=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='ToyAccuracy')
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.05))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=4, by_epoch=True, convert_to_iter_based=True)]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=2),
    checkpoint=dict(type='SafeCheckpointHook', interval=1),
    reseed=dict(type='ReseedHook'),
    guard=dict(type='NonFiniteGuardHook'),
)
absent_hooks = ['classes', 'energy', 'report']  # what is drawn at the end of a run takes time
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'))
auto_scale_lr = dict(base_batch_size=8, enable=False)
