"""What all configs of event data share."""

_base_ = './default_runtime.py'

default_hooks = dict(visualization=dict(type='EventVisualizationHook'))  # frames side by side
