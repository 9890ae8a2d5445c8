"""qsd-small at 4 bits, its attention aligned with that of its conventional counterpart (train that first).

python tools/train.py configs/distillation/qsd-small-fgd_1xb64_cifar10-folder.py
"""

_base_ = './qsd-small-relu_1xb64_cifar10-folder.py'

teacher = dict(_base_.model, data_preprocessor=None, checkpoint='work_dirs/teacher/epoch_28.pth')
model = dict(
    type='DistilledClassifier',
    backbone=dict(neuron=None, weight_bits=4),
    head=dict(neuron=dict(_delete_=True, type='IELIF', threshold=0.25, scale=0.25)),
    teacher=teacher,
    distillation=[dict(type='FineGrainedDistillation', weight=1.0)],
)
