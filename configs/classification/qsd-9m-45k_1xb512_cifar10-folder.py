"""Network of 9 M parameters and 4-bit weights on 45,000 training images of CIFAR-10 in folders, for a GPU.

python tools/train.py configs/classification/qsd-9m-45k_1xb512_cifar10-folder.py --amp --graph
Data: data/cifar10/{train,val}/CLASS/*.jpg; the last 500 training images of each class are for validation.
Expect: not trained here for 60 epochs; 86.70 % top-1 on those 5,000 after 20 (--epochs 20), minutes on a GPU.
"""

_base_ = [
    '../_base_/models/qsd-9m_32px.py',
    '../_base_/datasets/cifar10_folder_memory.py',
    '../_base_/schedules/cifar10_60e_bs512.py',
    '../_base_/default_runtime.py',
]

data_preprocessor = dict(cutout=8)
train_dataloader = dict(batch_size=512)
val_dataloader = dict(batch_size=500)
test_dataloader = dict(batch_size=500)
randomness = dict(seed=0)
