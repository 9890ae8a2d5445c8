"""What all configs of detection share: default_runtime.py with the pictures of mmdet."""

_base_ = './default_runtime.py'

default_scope = 'mmdet'
default_hooks = dict(
    logger=dict(interval=50),
    visualization=dict(_delete_=True, type='DetVisualizationHook'),
)
visualizer = dict(
    _delete_=True, type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
