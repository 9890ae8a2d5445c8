"""Names of tensors in published checkpoints and what they are called here, one a line: published, ours.

``{i}``, ``{j}`` stand for numbers. Quantizers of activations (``.act.*``) and ``.init_state``, which stand beside each
``.alpha`` in published files, have no counterpart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

# Groups of blocks in the published networks, the stage each belongs to, in order of execution.
BLOCK_GROUPS = {'ConvBlock1_1': 0, 'ConvBlock1_2': 1, 'ConvBlock2_1': 2, 'ConvBlock2_2': 2, 'block3': 3, 'block4': 4}
DOWNSAMPLES = ('downsample1_1', 'downsample1_2', 'downsample2', 'downsample3', 'downsample4')
MOST = 10  # of what {i} and {j} count

# The backbone, block by block.

DOWNSAMPLE = """
encode_conv.weight             synapse.weight
encode_conv.bias               synapse.bias
encode_conv.alpha              synapse.quantizer.step
encode_bn.weight               norm.weight
encode_bn.bias                 norm.bias
encode_bn.running_mean         norm.running_mean
encode_bn.running_var          norm.running_var
encode_bn.num_batches_tracked  norm.num_batches_tracked
"""

QSD_SEPARABLE = """
pwconv1.weight           0.synapse.weight
pwconv1.alpha            0.synapse.quantizer.step
bn1.weight               0.norm.weight
bn1.bias                 0.norm.bias
bn1.running_mean         0.norm.running_mean
bn1.running_var          0.norm.running_var
bn1.num_batches_tracked  0.norm.num_batches_tracked
dwconv.weight            1.synapse.0.weight
dwconv.alpha             1.synapse.0.quantizer.step
pwconv2.weight           1.synapse.1.weight
pwconv2.alpha            1.synapse.1.quantizer.step
bn2.weight               1.norm.weight
bn2.bias                 1.norm.bias
bn2.running_mean         1.norm.running_mean
bn2.running_var          1.norm.running_var
bn2.num_batches_tracked  1.norm.num_batches_tracked
"""

CHANNEL_CONV = """
conv1.weight             0.synapse.weight
conv1.alpha              0.synapse.quantizer.step
bn1.weight               0.norm.weight
bn1.bias                 0.norm.bias
bn1.running_mean         0.norm.running_mean
bn1.running_var          0.norm.running_var
bn1.num_batches_tracked  0.norm.num_batches_tracked
conv2.weight             1.synapse.weight
conv2.alpha              1.synapse.quantizer.step
bn2.weight               1.norm.weight
bn2.bias                 1.norm.bias
bn2.running_mean         1.norm.running_mean
bn2.running_var          1.norm.running_var
bn2.num_batches_tracked  1.norm.num_batches_tracked
"""

QSD_ATTENTION = """
q_conv.0.body.0.weight                     query.synapse.0.weight
q_conv.0.body.0.alpha                      query.synapse.0.quantizer.step
q_conv.0.body.1.bn.weight                  query.synapse.1.norm.weight
q_conv.0.body.1.bn.bias                    query.synapse.1.norm.bias
q_conv.0.body.1.bn.running_mean            query.synapse.1.norm.running_mean
q_conv.0.body.1.bn.running_var             query.synapse.1.norm.running_var
q_conv.0.body.1.bn.num_batches_tracked     query.synapse.1.norm.num_batches_tracked
q_conv.0.body.2.0.weight                   query.synapse.2.weight
q_conv.0.body.2.0.alpha                    query.synapse.2.quantizer.step
q_conv.0.body.2.1.weight                   query.synapse.3.weight
q_conv.0.body.2.1.alpha                    query.synapse.3.quantizer.step
q_conv.0.body.2.2.weight                   query.synapse.4.weight
q_conv.0.body.2.2.bias                     query.synapse.4.bias
q_conv.0.body.2.2.running_mean             query.synapse.4.running_mean
q_conv.0.body.2.2.running_var              query.synapse.4.running_var
q_conv.0.body.2.2.num_batches_tracked      query.synapse.4.num_batches_tracked
q_conv.1.weight                            query.norm.weight
q_conv.1.bias                              query.norm.bias
q_conv.1.running_mean                      query.norm.running_mean
q_conv.1.running_var                       query.norm.running_var
q_conv.1.num_batches_tracked               query.norm.num_batches_tracked
k_conv.0.body.0.weight                     key.synapse.0.weight
k_conv.0.body.0.alpha                      key.synapse.0.quantizer.step
k_conv.0.body.1.bn.weight                  key.synapse.1.norm.weight
k_conv.0.body.1.bn.bias                    key.synapse.1.norm.bias
k_conv.0.body.1.bn.running_mean            key.synapse.1.norm.running_mean
k_conv.0.body.1.bn.running_var             key.synapse.1.norm.running_var
k_conv.0.body.1.bn.num_batches_tracked     key.synapse.1.norm.num_batches_tracked
k_conv.0.body.2.0.weight                   key.synapse.2.weight
k_conv.0.body.2.0.alpha                    key.synapse.2.quantizer.step
k_conv.0.body.2.1.weight                   key.synapse.3.weight
k_conv.0.body.2.1.alpha                    key.synapse.3.quantizer.step
k_conv.0.body.2.2.weight                   key.synapse.4.weight
k_conv.0.body.2.2.bias                     key.synapse.4.bias
k_conv.0.body.2.2.running_mean             key.synapse.4.running_mean
k_conv.0.body.2.2.running_var              key.synapse.4.running_var
k_conv.0.body.2.2.num_batches_tracked      key.synapse.4.num_batches_tracked
k_conv.1.weight                            key.norm.weight
k_conv.1.bias                              key.norm.bias
k_conv.1.running_mean                      key.norm.running_mean
k_conv.1.running_var                       key.norm.running_var
k_conv.1.num_batches_tracked               key.norm.num_batches_tracked
v_conv.0.body.0.weight                     value.synapse.0.weight
v_conv.0.body.0.alpha                      value.synapse.0.quantizer.step
v_conv.0.body.1.bn.weight                  value.synapse.1.norm.weight
v_conv.0.body.1.bn.bias                    value.synapse.1.norm.bias
v_conv.0.body.1.bn.running_mean            value.synapse.1.norm.running_mean
v_conv.0.body.1.bn.running_var             value.synapse.1.norm.running_var
v_conv.0.body.1.bn.num_batches_tracked     value.synapse.1.norm.num_batches_tracked
v_conv.0.body.2.0.weight                   value.synapse.2.weight
v_conv.0.body.2.0.alpha                    value.synapse.2.quantizer.step
v_conv.0.body.2.1.weight                   value.synapse.3.weight
v_conv.0.body.2.1.alpha                    value.synapse.3.quantizer.step
v_conv.0.body.2.2.weight                   value.synapse.4.weight
v_conv.0.body.2.2.bias                     value.synapse.4.bias
v_conv.0.body.2.2.running_mean             value.synapse.4.running_mean
v_conv.0.body.2.2.running_var              value.synapse.4.running_var
v_conv.0.body.2.2.num_batches_tracked      value.synapse.4.num_batches_tracked
v_conv.1.weight                            value.norm.weight
v_conv.1.bias                              value.norm.bias
v_conv.1.running_mean                      value.norm.running_mean
v_conv.1.running_var                       value.norm.running_var
v_conv.1.num_batches_tracked               value.norm.num_batches_tracked
proj_conv.0.body.0.weight                  projection.synapse.0.weight
proj_conv.0.body.0.alpha                   projection.synapse.0.quantizer.step
proj_conv.0.body.1.bn.weight               projection.synapse.1.norm.weight
proj_conv.0.body.1.bn.bias                 projection.synapse.1.norm.bias
proj_conv.0.body.1.bn.running_mean         projection.synapse.1.norm.running_mean
proj_conv.0.body.1.bn.running_var          projection.synapse.1.norm.running_var
proj_conv.0.body.1.bn.num_batches_tracked  projection.synapse.1.norm.num_batches_tracked
proj_conv.0.body.2.0.weight                projection.synapse.2.weight
proj_conv.0.body.2.0.alpha                 projection.synapse.2.quantizer.step
proj_conv.0.body.2.1.weight                projection.synapse.3.weight
proj_conv.0.body.2.1.alpha                 projection.synapse.3.quantizer.step
proj_conv.0.body.2.2.weight                projection.synapse.4.weight
proj_conv.0.body.2.2.bias                  projection.synapse.4.bias
proj_conv.0.body.2.2.running_mean          projection.synapse.4.running_mean
proj_conv.0.body.2.2.running_var           projection.synapse.4.running_var
proj_conv.0.body.2.2.num_batches_tracked   projection.synapse.4.num_batches_tracked
proj_conv.1.weight                         projection.norm.weight
proj_conv.1.bias                           projection.norm.bias
proj_conv.1.running_mean                   projection.norm.running_mean
proj_conv.1.running_var                    projection.norm.running_var
proj_conv.1.num_batches_tracked            projection.norm.num_batches_tracked
"""

MLP = """
fc1_conv.weight             0.synapse.weight
fc1_conv.bias               0.synapse.bias
fc1_conv.alpha              0.synapse.quantizer.step
fc1_bn.weight               0.norm.weight
fc1_bn.bias                 0.norm.bias
fc1_bn.running_mean         0.norm.running_mean
fc1_bn.running_var          0.norm.running_var
fc1_bn.num_batches_tracked  0.norm.num_batches_tracked
fc2_conv.weight             1.synapse.weight
fc2_conv.bias               1.synapse.bias
fc2_conv.alpha              1.synapse.quantizer.step
fc2_bn.weight               1.norm.weight
fc2_bn.bias                 1.norm.bias
fc2_bn.running_mean         1.norm.running_mean
fc2_bn.running_var          1.norm.running_var
fc2_bn.num_batches_tracked  1.norm.num_batches_tracked
"""

E_SEPARABLE = """
pwconv1.0.weight               0.synapse.weight
pwconv1.1.weight               0.norm.weight
pwconv1.1.bias                 0.norm.bias
pwconv1.1.running_mean         0.norm.running_mean
pwconv1.1.running_var          0.norm.running_var
pwconv1.1.num_batches_tracked  0.norm.num_batches_tracked
dwconv.0.weight                1.synapse.weight
dwconv.1.weight                1.norm.weight
dwconv.1.bias                  1.norm.bias
dwconv.1.running_mean          1.norm.running_mean
dwconv.1.running_var           1.norm.running_var
dwconv.1.num_batches_tracked   1.norm.num_batches_tracked
pwconv2.0.weight               2.synapse.weight
pwconv2.1.weight               2.norm.weight
pwconv2.1.bias                 2.norm.bias
pwconv2.1.running_mean         2.norm.running_mean
pwconv2.1.running_var          2.norm.running_var
pwconv2.1.num_batches_tracked  2.norm.num_batches_tracked
"""

E_ATTENTION = """
q_conv.0.weight                  query.synapse.weight
q_conv.1.weight                  query.norm.weight
q_conv.1.bias                    query.norm.bias
q_conv.1.running_mean            query.norm.running_mean
q_conv.1.running_var             query.norm.running_var
q_conv.1.num_batches_tracked     query.norm.num_batches_tracked
k_conv.0.weight                  key.synapse.weight
k_conv.1.weight                  key.norm.weight
k_conv.1.bias                    key.norm.bias
k_conv.1.running_mean            key.norm.running_mean
k_conv.1.running_var             key.norm.running_var
k_conv.1.num_batches_tracked     key.norm.num_batches_tracked
v_conv.0.weight                  value.synapse.weight
v_conv.1.weight                  value.norm.weight
v_conv.1.bias                    value.norm.bias
v_conv.1.running_mean            value.norm.running_mean
v_conv.1.running_var             value.norm.running_var
v_conv.1.num_batches_tracked     value.norm.num_batches_tracked
proj_conv.0.weight               projection.synapse.weight
proj_conv.1.weight               projection.norm.weight
proj_conv.1.bias                 projection.norm.bias
proj_conv.1.running_mean         projection.norm.running_mean
proj_conv.1.running_var          projection.norm.running_var
proj_conv.1.num_batches_tracked  projection.norm.num_batches_tracked
"""

LARGE_CHANNEL_CONV = """
conv1.0.0.weight               0.synapse.weight
conv1.0.0.bias                 0.synapse.bias
conv1.0.1.weight               0.norm.weight
conv1.0.1.bias                 0.norm.bias
conv1.0.1.running_mean         0.norm.running_mean
conv1.0.1.running_var          0.norm.running_var
conv1.0.1.num_batches_tracked  0.norm.num_batches_tracked
conv2.0.0.weight               1.synapse.weight
conv2.0.0.bias                 1.synapse.bias
conv2.0.1.weight               1.norm.weight
conv2.0.1.bias                 1.norm.bias
conv2.0.1.running_mean         1.norm.running_mean
conv2.0.1.running_var          1.norm.running_var
conv2.0.1.num_batches_tracked  1.norm.num_batches_tracked
"""

LARGE_POINTWISE = """
conv1.0.weight               synapse.0.weight
conv1.1.weight               synapse.1.weight
conv1.1.bias                 synapse.1.bias
conv1.1.running_mean         synapse.1.running_mean
conv1.1.running_var          synapse.1.running_var
conv1.1.num_batches_tracked  synapse.1.num_batches_tracked
conv2.0.weight               synapse.2.weight
conv2.1.weight               synapse.3.weight
conv2.1.bias                 synapse.3.bias
conv2.1.running_mean         synapse.3.running_mean
conv2.1.running_var          synapse.3.running_var
conv2.1.num_batches_tracked  synapse.3.num_batches_tracked
"""

LARGE_ATTENTION = """
q_conv.0.conv1.0.weight                  query.synapse.0.weight
q_conv.0.conv1.1.weight                  query.synapse.1.weight
q_conv.0.conv1.1.bias                    query.synapse.1.bias
q_conv.0.conv1.1.running_mean            query.synapse.1.running_mean
q_conv.0.conv1.1.running_var             query.synapse.1.running_var
q_conv.0.conv1.1.num_batches_tracked     query.synapse.1.num_batches_tracked
q_conv.0.conv2.0.weight                  query.synapse.2.weight
q_conv.0.conv2.1.weight                  query.synapse.3.weight
q_conv.0.conv2.1.bias                    query.synapse.3.bias
q_conv.0.conv2.1.running_mean            query.synapse.3.running_mean
q_conv.0.conv2.1.running_var             query.synapse.3.running_var
q_conv.0.conv2.1.num_batches_tracked     query.synapse.3.num_batches_tracked
q_conv.1.weight                          query.norm.weight
q_conv.1.bias                            query.norm.bias
q_conv.1.running_mean                    query.norm.running_mean
q_conv.1.running_var                     query.norm.running_var
q_conv.1.num_batches_tracked             query.norm.num_batches_tracked
k_conv.0.conv1.0.weight                  key.synapse.0.weight
k_conv.0.conv1.1.weight                  key.synapse.1.weight
k_conv.0.conv1.1.bias                    key.synapse.1.bias
k_conv.0.conv1.1.running_mean            key.synapse.1.running_mean
k_conv.0.conv1.1.running_var             key.synapse.1.running_var
k_conv.0.conv1.1.num_batches_tracked     key.synapse.1.num_batches_tracked
k_conv.0.conv2.0.weight                  key.synapse.2.weight
k_conv.0.conv2.1.weight                  key.synapse.3.weight
k_conv.0.conv2.1.bias                    key.synapse.3.bias
k_conv.0.conv2.1.running_mean            key.synapse.3.running_mean
k_conv.0.conv2.1.running_var             key.synapse.3.running_var
k_conv.0.conv2.1.num_batches_tracked     key.synapse.3.num_batches_tracked
k_conv.1.weight                          key.norm.weight
k_conv.1.bias                            key.norm.bias
k_conv.1.running_mean                    key.norm.running_mean
k_conv.1.running_var                     key.norm.running_var
k_conv.1.num_batches_tracked             key.norm.num_batches_tracked
v_conv.0.conv1.0.weight                  value.synapse.0.weight
v_conv.0.conv1.1.weight                  value.synapse.1.weight
v_conv.0.conv1.1.bias                    value.synapse.1.bias
v_conv.0.conv1.1.running_mean            value.synapse.1.running_mean
v_conv.0.conv1.1.running_var             value.synapse.1.running_var
v_conv.0.conv1.1.num_batches_tracked     value.synapse.1.num_batches_tracked
v_conv.0.conv2.0.weight                  value.synapse.2.weight
v_conv.0.conv2.1.weight                  value.synapse.3.weight
v_conv.0.conv2.1.bias                    value.synapse.3.bias
v_conv.0.conv2.1.running_mean            value.synapse.3.running_mean
v_conv.0.conv2.1.running_var             value.synapse.3.running_var
v_conv.0.conv2.1.num_batches_tracked     value.synapse.3.num_batches_tracked
v_conv.1.weight                          value.norm.weight
v_conv.1.bias                            value.norm.bias
v_conv.1.running_mean                    value.norm.running_mean
v_conv.1.running_var                     value.norm.running_var
v_conv.1.num_batches_tracked             value.norm.num_batches_tracked
proj_conv.0.conv1.0.weight               projection.synapse.0.weight
proj_conv.0.conv1.1.weight               projection.synapse.1.weight
proj_conv.0.conv1.1.bias                 projection.synapse.1.bias
proj_conv.0.conv1.1.running_mean         projection.synapse.1.running_mean
proj_conv.0.conv1.1.running_var          projection.synapse.1.running_var
proj_conv.0.conv1.1.num_batches_tracked  projection.synapse.1.num_batches_tracked
proj_conv.0.conv2.0.weight               projection.synapse.2.weight
proj_conv.0.conv2.1.weight               projection.synapse.3.weight
proj_conv.0.conv2.1.bias                 projection.synapse.3.bias
proj_conv.0.conv2.1.running_mean         projection.synapse.3.running_mean
proj_conv.0.conv2.1.running_var          projection.synapse.3.running_var
proj_conv.0.conv2.1.num_batches_tracked  projection.synapse.3.num_batches_tracked
proj_conv.1.weight                       projection.norm.weight
proj_conv.1.bias                         projection.norm.bias
proj_conv.1.running_mean                 projection.norm.running_mean
proj_conv.1.running_var                  projection.norm.running_var
proj_conv.1.num_batches_tracked          projection.norm.num_batches_tracked
"""


# Gains of a transformer block's branches; of those with a pointwise branch, which has none itself.

LAYER_SCALES = """
layer_scale1  0.gain.weight
layer_scale2  1.gain.weight
layer_scale3  2.gain.weight
"""

LAYER_SCALES_AFTER_BRANCH = """
layer_scale1  1.gain.weight
layer_scale2  2.gain.weight
"""

# Heads of classifiers, the second of those that learn from a teacher, the norm that closes the encoder of Spike-MAE.

HEAD = """
head.weight  head.fc.synapse.weight
head.bias    head.fc.synapse.bias
head.alpha   head.fc.synapse.quantizer.step
"""

HEAD_KD = """
head_kd.weight  head.fc_dist.synapse.weight
head_kd.bias    head.fc_dist.synapse.bias
head_kd.alpha   head.fc_dist.synapse.quantizer.step
"""

NORM = """
norm.weight               norm.weight
norm.bias                 norm.bias
norm.running_mean         norm.running_mean
norm.running_var          norm.running_var
norm.num_batches_tracked  norm.num_batches_tracked
"""

# Detectors. What has no neuron of its own in the published heads is folded into the layer before it.

DETECTION_NECK = """
neck.lateral_convs.{i}.1.0.conv.weight  neck.lateral_convs.{i}.synapse.weight
neck.lateral_convs.{i}.1.0.conv.bias    neck.lateral_convs.{i}.synapse.bias
neck.fpn_convs.{i}.1.0.conv.weight      neck.fpn_convs.{i}.synapse.weight
neck.fpn_convs.{i}.1.0.conv.bias        neck.fpn_convs.{i}.synapse.bias
"""

RPN_HEAD = """
rpn_head.rpn_conv.1.0.weight  rpn_head.rpn_conv.synapse.weight
rpn_head.rpn_conv.1.0.bias    rpn_head.rpn_conv.synapse.bias
rpn_head.rpn_cls.1.0.weight   rpn_head.rpn_cls.synapse.weight
rpn_head.rpn_cls.1.0.bias     rpn_head.rpn_cls.synapse.bias
rpn_head.rpn_reg.1.0.weight   rpn_head.rpn_reg.synapse.weight
rpn_head.rpn_reg.1.0.bias     rpn_head.rpn_reg.synapse.bias
"""

BOX_HEAD = """
fc_cls.weight                                fc_cls.synapse.weight
fc_cls.bias                                  fc_cls.synapse.bias
fc_reg.weight                                fc_reg.synapse.weight
fc_reg.bias                                  fc_reg.synapse.bias
shared_convs.{i}.1.0.conv.weight             shared_convs.{i}.synapse.weight
shared_convs.{i}.1.0.conv.bias               shared_convs.{i}.synapse.bias
shared_convs.{i}.1.0.bn.weight               shared_convs.{i}.norm.weight
shared_convs.{i}.1.0.bn.bias                 shared_convs.{i}.norm.bias
shared_convs.{i}.1.0.bn.running_mean         shared_convs.{i}.norm.running_mean
shared_convs.{i}.1.0.bn.running_var          shared_convs.{i}.norm.running_var
shared_convs.{i}.1.0.bn.num_batches_tracked  shared_convs.{i}.norm.num_batches_tracked
shared_fcs.{i}.1.0.weight                    shared_fcs.{i}.synapse.weight
shared_fcs.{i}.1.0.bias                      shared_fcs.{i}.synapse.bias
"""

MASK_HEAD = """
convs.{i}.1.0.conv.weight             convs.{i}.synapse.weight
convs.{i}.1.0.conv.bias               convs.{i}.synapse.bias
convs.{i}.1.0.bn.weight               convs.{i}.norm.weight
convs.{i}.1.0.bn.bias                 convs.{i}.norm.bias
convs.{i}.1.0.bn.running_mean         convs.{i}.norm.running_mean
convs.{i}.1.0.bn.running_var          convs.{i}.norm.running_var
convs.{i}.1.0.bn.num_batches_tracked  convs.{i}.norm.num_batches_tracked
upsample.1.0.weight                   upsample.synapse.weight
upsample.1.0.bias                     upsample.synapse.bias
conv_logits.1.0.weight                conv_logits.synapse.weight
conv_logits.1.0.bias                  conv_logits.synapse.bias
"""

# The neurons count too: convolution i is published as number 2 i + 1.
RETINA_HEAD = """
bbox_head.cls_convs.1.0.conv.weight  bbox_head.cls_convs.0.synapse.weight
bbox_head.cls_convs.1.0.conv.bias    bbox_head.cls_convs.0.synapse.bias
bbox_head.cls_convs.3.0.conv.weight  bbox_head.cls_convs.1.synapse.weight
bbox_head.cls_convs.3.0.conv.bias    bbox_head.cls_convs.1.synapse.bias
bbox_head.cls_convs.5.0.conv.weight  bbox_head.cls_convs.2.synapse.weight
bbox_head.cls_convs.5.0.conv.bias    bbox_head.cls_convs.2.synapse.bias
bbox_head.cls_convs.7.0.conv.weight  bbox_head.cls_convs.3.synapse.weight
bbox_head.cls_convs.7.0.conv.bias    bbox_head.cls_convs.3.synapse.bias
bbox_head.reg_convs.1.0.conv.weight  bbox_head.reg_convs.0.synapse.weight
bbox_head.reg_convs.1.0.conv.bias    bbox_head.reg_convs.0.synapse.bias
bbox_head.reg_convs.3.0.conv.weight  bbox_head.reg_convs.1.synapse.weight
bbox_head.reg_convs.3.0.conv.bias    bbox_head.reg_convs.1.synapse.bias
bbox_head.reg_convs.5.0.conv.weight  bbox_head.reg_convs.2.synapse.weight
bbox_head.reg_convs.5.0.conv.bias    bbox_head.reg_convs.2.synapse.bias
bbox_head.reg_convs.7.0.conv.weight  bbox_head.reg_convs.3.synapse.weight
bbox_head.reg_convs.7.0.conv.bias    bbox_head.reg_convs.3.synapse.bias
bbox_head.retina_cls.0.weight        bbox_head.retina_cls.synapse.weight
bbox_head.retina_cls.0.bias          bbox_head.retina_cls.synapse.bias
bbox_head.retina_reg.0.weight        bbox_head.retina_reg.synapse.weight
bbox_head.retina_reg.0.bias          bbox_head.retina_reg.synapse.bias
"""

# Segmentors. The biases of the neck's convolutions go into the means of the norms that follow.

SEGMENTATION_NECK = """
neck.lateral_convs.{i}.0.weight               neck.lateral_convs.{i}.synapse.weight
neck.lateral_convs.{i}.0.bias                 neck.lateral_convs.{i}.synapse.bias
neck.lateral_convs.{i}.1.weight               neck.lateral_convs.{i}.norm.weight
neck.lateral_convs.{i}.1.bias                 neck.lateral_convs.{i}.norm.bias
neck.lateral_convs.{i}.1.running_mean         neck.lateral_convs.{i}.norm.running_mean
neck.lateral_convs.{i}.1.running_var          neck.lateral_convs.{i}.norm.running_var
neck.lateral_convs.{i}.1.num_batches_tracked  neck.lateral_convs.{i}.norm.num_batches_tracked
neck.fpn_convs.{i}.0.weight                   neck.fpn_convs.{i}.synapse.weight
neck.fpn_convs.{i}.0.bias                     neck.fpn_convs.{i}.synapse.bias
neck.fpn_convs.{i}.1.weight                   neck.fpn_convs.{i}.norm.weight
neck.fpn_convs.{i}.1.bias                     neck.fpn_convs.{i}.norm.bias
neck.fpn_convs.{i}.1.running_mean             neck.fpn_convs.{i}.norm.running_mean
neck.fpn_convs.{i}.1.running_var              neck.fpn_convs.{i}.norm.running_var
neck.fpn_convs.{i}.1.num_batches_tracked      neck.fpn_convs.{i}.norm.num_batches_tracked
"""

DECODE_HEAD = """
decode_head.conv_seg.weight                            decode_head.conv_seg.synapse.weight
decode_head.conv_seg.bias                              decode_head.conv_seg.synapse.bias
decode_head.scale_heads.{i}.{j}.1.weight               decode_head.scale_heads.{i}.{j}.synapse.weight
decode_head.scale_heads.{i}.{j}.2.weight               decode_head.scale_heads.{i}.{j}.norm.weight
decode_head.scale_heads.{i}.{j}.2.bias                 decode_head.scale_heads.{i}.{j}.norm.bias
decode_head.scale_heads.{i}.{j}.2.running_mean         decode_head.scale_heads.{i}.{j}.norm.running_mean
decode_head.scale_heads.{i}.{j}.2.running_var          decode_head.scale_heads.{i}.{j}.norm.running_var
decode_head.scale_heads.{i}.{j}.2.num_batches_tracked  decode_head.scale_heads.{i}.{j}.norm.num_batches_tracked
"""

Part = tuple[str, str, str]
"""Published prefix, our prefix, lines."""

_QSD = (
    [('Conv.', '0.branch.', QSD_SEPARABLE), ('', '1.branch.', CHANNEL_CONV)],
    [('', '', LAYER_SCALES), ('attn.', '0.branch.', QSD_ATTENTION), ('mlp.', '1.branch.', MLP)],
)
_E_CONV_BLOCK = [('Conv.', '0.branch.', E_SEPARABLE), ('', '1.branch.', CHANNEL_CONV)]
_E = (
    _E_CONV_BLOCK,
    [
        ('', '', LAYER_SCALES),
        ('conv.', '0.branch.', E_SEPARABLE),
        ('attn.', '1.branch.', E_ATTENTION),
        ('mlp.', '2.branch.', MLP),
    ],
)
_E_WITHOUT_SEPARABLE = (
    _E_CONV_BLOCK,
    [('', '', LAYER_SCALES), ('attn.', '0.branch.', E_ATTENTION), ('mlp.', '1.branch.', MLP)],
)
_LARGE_CONV_BLOCK = [('', '0.branch.', LARGE_CHANNEL_CONV)]
_LARGE = (
    _LARGE_CONV_BLOCK,
    [('', '', LAYER_SCALES), ('attn.', '0.branch.', LARGE_ATTENTION), ('mlp.', '1.branch.', MLP)],
)
_LARGE_WITH_BRANCH = (
    _LARGE_CONV_BLOCK,
    [
        ('', '', LAYER_SCALES_AFTER_BRANCH),
        ('rep_conv.', '0.branch.', LARGE_POINTWISE),
        ('attn.', '1.branch.', LARGE_ATTENTION),
        ('mlp.', '2.branch.', MLP),
    ],
)
# Parts of a convolution block and of a transformer block, by what Arch says.
BLOCKS: dict[tuple[str, bool, bool], tuple[list[Part], list[Part]]] = {
    # family, pointwise branch, separable convolution in transformer blocks
    ('qsd', False, True): _QSD,
    ('espike', False, True): _E,
    ('espike', False, False): _E_WITHOUT_SEPARABLE,
    ('espike-large', False, True): _LARGE,
    ('espike-large', True, True): _LARGE_WITH_BRANCH,
}
CLASSIFIER: list[Part] = [('', '', HEAD)]
TWO_HEADS: list[Part] = [('', '', HEAD), ('', '', HEAD_KD)]
ENCODER: list[Part] = [('', '', NORM)]
RETINANET: list[Part] = [('', '', DETECTION_NECK), ('', '', RETINA_HEAD)]
MASK_RCNN: list[Part] = [
    ('', '', DETECTION_NECK),
    ('', '', RPN_HEAD),
    ('roi_head.bbox_head.', 'roi_head.bbox_head.', BOX_HEAD),
    ('roi_head.mask_head.', 'roi_head.mask_head.', MASK_HEAD),
]
CASCADE_MASK_RCNN: list[Part] = [
    ('', '', DETECTION_NECK),
    ('', '', RPN_HEAD),
    ('roi_head.bbox_head.{j}.', 'roi_head.bbox_head.{j}.', BOX_HEAD),
    ('roi_head.mask_head.{j}.', 'roi_head.mask_head.{j}.', MASK_HEAD),
]
SEMANTIC_FPN: list[Part] = [('', '', SEGMENTATION_NECK), ('', '', DECODE_HEAD)]
AFTER = {
    'classifier': CLASSIFIER,
    'event-classifier': CLASSIFIER,
    'two-head classifier': TWO_HEADS,
    'encoder': ENCODER,
    'mask-rcnn': MASK_RCNN,
    'cascade-mask-rcnn': CASCADE_MASK_RCNN,
    'retinanet': RETINANET,
    'semantic-fpn': SEMANTIC_FPN,
}
"""Parts after the backbone, by kind of network."""


@dataclass(frozen=True)
class NameTable:
    """Names of one network's tensors, both ways.

    Args:
        lines: published -> ours, in the order of the published file.

    >>> table = name_table('espike', dict.fromkeys(block_groups(5), 1))
    >>> table.ours('downsample1_1.encode_conv.weight')
    'backbone.stages.0.downsample.synapse.weight'
    """

    lines: Mapping[str, str]

    @cached_property
    def _backwards(self) -> dict[str, str]:
        return {ours: published for published, ours in self.lines.items()}

    def ours(self, published: str) -> str | None:
        """Return our name of a published tensor; None when the table has none."""
        return self.lines.get(published)

    def published(self, ours: str) -> str:
        """Return the published name of our tensor; the same name when the table has none."""
        return self._backwards.get(ours, ours)


def block_groups(num_stages: int) -> dict[str, int]:
    """Return those of :data:`BLOCK_GROUPS` that a network of so many stages has."""
    return {group: stage for group, stage in BLOCK_GROUPS.items() if stage < num_stages}


def expand(part: Part) -> Iterator[tuple[str, str]]:
    """Yield pairs of published and our name of a part, numbers filled in."""
    theirs, ours, lines = part
    for line in lines.split('\n'):
        if not line:
            continue
        published, own = line.split()
        pairs = [(theirs + published, ours + own)]
        for mark in ('{j}', '{i}'):
            if mark in pairs[0][0]:
                pairs = [tuple(n.replace(mark, str(k)) for n in pair) for pair in pairs for k in range(MOST)]
        yield from pairs


def name_table(
    family: str,
    block_counts: Mapping[str, int],
    branch: bool = False,
    after: list[Part] = CLASSIFIER,
    separable: bool = True,
) -> NameTable:
    """Return the names of one network.

    Args:
        family: a family of networks.
        block_counts: blocks in each of its groups of blocks.
        branch: whether blocks have a pointwise branch.
        after: parts after the blocks, such as :data:`CLASSIFIER`.
        separable: whether transformer blocks of family espike begin with a separable convolution.
    """
    conv_block, transformer_block = BLOCKS[family, branch, separable]
    num_stages = 1 + max(BLOCK_GROUPS[group] for group in block_counts)
    lines: dict[str, str] = {}
    for stage, downsample in enumerate(DOWNSAMPLES[:num_stages]):
        lines.update(expand((f'{downsample}.', f'backbone.stages.{stage}.downsample.', DOWNSAMPLE)))
        placed = 0
        for group in (group for group, its in BLOCK_GROUPS.items() if its == stage):
            for i in range(block_counts[group]):
                block = f'backbone.stages.{stage}.blocks.{placed}.'
                placed += 1
                for theirs, ours, text in conv_block if stage < 3 else transformer_block:
                    lines.update(expand((f'{group}.{i}.{theirs}', block + ours, text)))
    for part in after:
        lines.update(expand(part))
    return NameTable(lines)
