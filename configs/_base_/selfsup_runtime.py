"""What all configs of masked pre-training share: default_runtime.py with a figure of reconstructions, no validation."""

_base_ = './default_runtime.py'

default_hooks = dict(
    checkpoint=dict(save_best=None, rule=None),
    reconstruction=dict(type='ReconstructionHook', interval=1),
)
