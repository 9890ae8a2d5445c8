"""qsd-small at 4 bits on CIFAR-10, which learns the classes of its conventional counterpart beside the labels.

python tools/train.py configs/distillation/qsd-small-relu_1xb64_cifar10-folder.py --work-dir work_dirs/teacher
python tools/train.py configs/distillation/qsd-small-hard_1xb64_cifar10-folder.py
Data: data/cifar10/{train,val}/CLASS/*.jpg, and work_dirs/teacher of the first line.
Expect: 52.4 % top-1 after 6 epochs on 10,000 images, 10 to 25 minutes on a busy core; the 28 epochs were not trained
    here.
"""

_base_ = './qsd-small-fgd_1xb64_cifar10-folder.py'

# Half and half, as the papers' large sizes.
model = dict(label_weight=0.5, distillation=[dict(type='HardLogitDistillation', weight=0.5)])
