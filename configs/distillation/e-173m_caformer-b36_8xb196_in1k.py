"""E-SpikeFormer of 173 M parameters on ImageNet, taught by CAFormer-B36: the paper's recipe, 100 epochs.

tools/dist_train.sh configs/distillation/e-173m_caformer-b36_8xb196_in1k.py 8 --amp
Data: data/imagenet/{train,val}/CLASS/*.JPEG; timm downloads the teacher.
Expect: not trained here, and no figure of the paper is for this teacher alone.
"""

_base_ = './e-83m_caformer-b36_8xb196_in1k.py'

model = dict(backbone=dict(arch='e-173m'), head=dict(in_channels=768))
