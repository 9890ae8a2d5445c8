"""Spike-MAE pre-training of e-173m; configs/classification/e-173m_8xb128_in1k.py fine-tunes what it gives."""

_base_ = [
    '../_base_/models/spike-mae.py',
    '../_base_/datasets/imagenet_mae.py',
    '../_base_/schedules/spike-mae_200e.py',
    '../_base_/selfsup_runtime.py',
]

model = dict(backbone=dict(arch=dict(preset='e-173m', layer_scale=None)), neck=dict(embed_dim=768))
