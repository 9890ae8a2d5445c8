"""qsd-tiny_1xb32_digits.py, its attention aligned with that of its conventional counterpart.

python tools/train.py configs/distillation/qsd-tiny-relu_1xb32_digits.py --work-dir work_dirs/teacher
python tools/train.py configs/distillation/qsd-tiny-fgd_1xb32_digits.py
Data: in scikit-learn, nothing to download; and work_dirs/teacher of the first line.
Expect: not trained here.
"""

_base_ = './qsd-tiny-relu_1xb32_digits.py'

teacher = dict(_base_.model, data_preprocessor=None, checkpoint='work_dirs/teacher/epoch_12.pth')
model = dict(
    type='DistilledClassifier',
    backbone=dict(neuron=None, weight_bits=4),
    head=dict(neuron=dict(_delete_=True, type='IELIF', threshold=0.25, scale=0.25)),
    teacher=teacher,
    distillation=[dict(type='FineGrainedDistillation', weight=1.0)],  # the published weight is not known
)
