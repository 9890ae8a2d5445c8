"""qsd-tiny_1xb64_cifar10-folder.py, its attention aligned with that of its conventional counterpart.

python tools/train.py configs/distillation/qsd-tiny-relu_1xb64_cifar10-folder.py --work-dir work_dirs/teacher --amp
python tools/train.py configs/distillation/qsd-tiny-fgd_1xb64_cifar10-folder.py --amp
Data: data/cifar10/{train,val}/CLASS/*.jpg; and work_dirs/teacher of the first line.
Expect: not trained here.
"""

_base_ = './qsd-tiny-relu_1xb64_cifar10-folder.py'

teacher = dict(_base_.model, data_preprocessor=None, checkpoint='work_dirs/teacher/epoch_5.pth')
model = dict(
    type='DistilledClassifier',
    backbone=dict(neuron=None, weight_bits=4),
    head=dict(neuron=dict(_delete_=True, type='IELIF', threshold=0.25, scale=0.25)),
    teacher=teacher,
    distillation=[dict(type='FineGrainedDistillation', weight=1.0)],  # the published weight is not known
)
