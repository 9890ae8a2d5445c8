"""qsd-small at 4 bits on CIFAR-10, its attention aligned with that of its conventional counterpart.

python tools/train.py configs/distillation/qsd-small-relu_1xb64_cifar10-folder.py --work-dir work_dirs/teacher
python tools/train.py configs/distillation/qsd-small-fgd_1xb64_cifar10-folder.py
Data: data/cifar10/{train,val}/CLASS/*.jpg, and work_dirs/teacher of the first line.
Expect: 53.0 % top-1 after 6 epochs on 10,000 images, 10 to 25 minutes on a busy core; the 28 epochs were not trained
    here.
"""

_base_ = './qsd-small-relu_1xb64_cifar10-folder.py'

teacher = dict(_base_.model, data_preprocessor=None, checkpoint='work_dirs/teacher/epoch_28.pth')
model = dict(
    type='DistilledClassifier',
    backbone=dict(neuron=None, weight_bits=4),
    head=dict(neuron=dict(_delete_=True, type='IELIF', threshold=0.25, scale=0.25)),
    teacher=teacher,
    distillation=[dict(type='FineGrainedDistillation', weight=1.0)],  # the published weight is not known
)
