"""What all configs of image classification share: mmpretrain's usual hooks, and ours."""

default_scope = 'mmpretrain'
custom_imports = dict(imports=['qsdt_mm'])

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Whole files only, the old one removed after the new one is there.
    checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=3, save_best='auto', rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', enable=False),
    # A resumed run equals an uninterrupted one; a loss that is not finite stops it.
    reseed=dict(type='ReseedHook'),
    guard=dict(type='NonFiniteGuardHook'),
    # learning_curves.png while training; predictions.png, confusion.png and classes.json of a validation or test
    curves=dict(type='LearningCurvesHook'),
    predictions=dict(type='PredictionGridHook'),
    classes=dict(type='ClassResultsHook'),
    # energy.json and energy.png, at the end of a training
    energy=dict(type='EnergyHook'),
    # report.html, a page of all that, and firing_rates_by_epoch.png
    report=dict(type='RunReportHook'),
    # firing/<neuron>/{rate,silent,saturated} in scalars.json; a warning when a neuron falls silent
    firing=dict(type='FiringRateHook', interval=100),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=None, deterministic=False)
