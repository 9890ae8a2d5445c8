"""Heads for mmdet, with a neuron before each convolution and linear layer and no other activation."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn import ConvModule, build_norm_layer
from mmdet.models.dense_heads import RetinaHead, RPNHead, RTMDetSepBNHead
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead, Shared2FCBBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmengine.model import BaseModule
from torch import Tensor, nn

from qsdt_mm.compat.renamed import refuse_old_names
from qsdt_mm.errors import require
from qsdt_mm.models.layers import SpikeUnit
from qsdt_mm.models.layers.spiking import SpikingMixin
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.models.neurons.rounding import rounding_follows_weights
from qsdt_mm.models.quantization import steps_follow_weights

__getattr__ = refuse_old_names(__name__, 'SharedSpike2FCBBoxHead')


class SpikeRPNHead(SpikingMixin, RPNHead):
    """mmdet's RPN: ``N conv3``, then ``N pw`` for scores and ``N pw`` for boxes.

    Args: those of ``mmdet.RPNHead``, and ``neuron``, ``max_spike_count``, ``weight_bits``, ``membrane_driven``. Only
    the output layers start with small weights; the convolution before them has to drive their neurons. ``norm_cfg``: a
    norm after the convolution, with one set of statistics for all levels; none by default, as in mmdet.

    >>> head = SpikeRPNHead(in_channels=16, feat_channels=16)
    >>> scores, boxes = head.forward_single(torch.ones(1, 16, 4, 4))
    >>> scores.shape[1], boxes.shape[1]  # 9 anchors: a score and 4 box deltas each
    (9, 36)
    """

    def __init__(self, *args: Any, init_cfg: Any = None, norm_cfg: Any = None, **kwargs: Any) -> None:
        self.norm_cfg = norm_cfg
        outputs = [dict(name='rpn_cls'), dict(name='rpn_reg')]
        super().__init__(*args, init_cfg=init_cfg or dict(type='Normal', std=0.01, override=outputs), **kwargs)

    def _init_layers(self) -> None:
        super()._init_layers()
        if self.norm_cfg is not None:
            convs = [
                ConvModule(layer.in_channels, layer.out_channels, 3, padding=1, norm_cfg=self.norm_cfg, act_cfg=None)
                for layer in self.rpn_conv.modules()
                if isinstance(layer, nn.Conv2d)
            ]
            self.rpn_conv = convs[0] if len(convs) == 1 else nn.Sequential(*convs)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute scores and box deltas of one level; units pass on membrane potentials, negative ones too."""
        x = self.rpn_conv(x)
        return self.rpn_cls(x), self.rpn_reg(x)


class SpikeRetinaHead(SpikingMixin, RetinaHead):
    """mmdet's RetinaNet head with a neuron before each convolution.

    Args: those of ``mmdet.RetinaHead``, and ``neuron``, ``max_spike_count``, ``weight_bits``. Give ``norm_cfg`` so
    that the later of the stacked convolutions keep firing. ``shared_neuron``, as in the published head: the last
    convolutions have one neuron, which sees the positive membranes for the scores, then those for the boxes, as two
    time steps, so that what did not fire for the first is carried over to the second.

    Raises:
        ValueError: an argument is out of range, or the shared neuron does not spike.

    >>> head = SpikeRetinaHead(num_classes=5, in_channels=16, feat_channels=16, stacked_convs=1)
    >>> scores, boxes = head.forward_single(torch.ones(1, 16, 4, 4))
    >>> scores.shape[1], boxes.shape[1]  # 9 anchors: 5 classes, 4 box deltas each
    (45, 36)
    """

    def __init__(self, *args: Any, init_cfg: Any = None, shared_neuron: bool = False, **kwargs: Any) -> None:
        outputs = [dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.01), dict(name='retina_reg')]
        super().__init__(*args, init_cfg=init_cfg or dict(type='Normal', std=0.01, override=outputs), **kwargs)
        self.shared_neuron = shared_neuron
        if shared_neuron:
            neuron = self.retina_cls.neuron
            require(isinstance(neuron, SpikingNeuron), 'neuron', type(neuron).__name__, 'one that spikes, to be shared')
            neuron.time_steps = 2
            self.retina_reg.neuron = neuron

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute scores and box deltas of one level."""
        if not self.shared_neuron:
            return super().forward_single(x)
        scores = boxes = x
        for cls_conv, reg_conv in zip(self.cls_convs, self.reg_convs):
            scores, boxes = cls_conv(scores), reg_conv(boxes)
        # A membrane below zero would carry over, too.
        spikes = self.retina_cls.fire(torch.cat([scores, boxes]).relu())
        return tuple(unit.drive(part) for unit, part in zip((self.retina_cls, self.retina_reg), spikes.chunk(2)))


class SpikeRTMDetSepBNHead(SpikingMixin, RTMDetSepBNHead):
    """mmdet's RTMDet head with a neuron before each convolution; levels may share convolutions, each has its norms.

    Args: those of ``mmdet.RTMDetSepBNHead``, and ``neuron``, ``max_spike_count``, ``weight_bits``. Levels that share
    convolutions (``share_conv``, the default) need ``paramwise_cfg=dict(bypass_duplicate=True)`` in the optimizer's
    config, as mmdet's do. Only the output layers start with small weights.

    Source: RTMDet (arXiv 2212.07784), section 3.2.

    >>> points = dict(type='MlvlPointGenerator', offset=0, strides=[8, 16])
    >>> head = SpikeRTMDetSepBNHead(
    ...     num_classes=5, in_channels=16, feat_channels=16, stacked_convs=1, with_objectness=False,
    ...     anchor_generator=points, bbox_coder=dict(type='DistancePointBBoxCoder'))
    >>> scores, boxes = head([torch.ones(1, 16, 8, 8), torch.ones(1, 16, 4, 4)])
    >>> scores[1].shape, boxes[1].shape  # 5 classes, 4 distances to the sides of a box
    (torch.Size([1, 5, 4, 4]), torch.Size([1, 4, 4, 4]))
    """

    def __init__(self, *args: Any, init_cfg: Any = None, **kwargs: Any) -> None:
        outputs = [
            dict(type='Normal', name='rtm_cls', std=0.01, bias_prob=0.01),
            dict(type='Normal', name='rtm_reg', std=0.01),
        ]
        if kwargs.get('with_objectness', True):
            outputs.append(dict(type='Normal', name='rtm_obj', std=0.01, bias_prob=0.01))
        super().__init__(*args, init_cfg=init_cfg or dict(type='Normal', std=0.01, override=outputs), **kwargs)

    def init_weights(self) -> None:
        """Apply ``init_cfg``; mmdet's own method would give every convolution weights that leave neurons silent."""
        with steps_follow_weights(self), rounding_follows_weights(self):
            BaseModule.init_weights(self)


class NormedLinears:
    """Mix-in, before :class:`SpikingMixin`: box heads whose linear layers, but for the last, may have a norm.

    Args:
        fc_norm_cfg: norm after each of them, such as ``dict(type='BN1d')``; none by default, as in mmdet.
        args, kwargs: those of the head.

    >>> head = SpikeConvFCBBoxHead(
    ...     num_shared_fcs=2, in_channels=16, fc_out_channels=32, num_classes=5, fc_norm_cfg=dict(type='BN1d'))
    >>> [type(unit.norm).__name__ for unit in (*head.shared_fcs, head.fc_cls)]
    ['BatchNorm1d', 'BatchNorm1d', 'NoneType']
    """

    def __init__(self, *args: Any, fc_norm_cfg: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fc_norm_cfg = fc_norm_cfg
        if fc_norm_cfg is not None:
            for unit in self._inner_linears():
                _, unit.norm = build_norm_layer(fc_norm_cfg, unit.synapse.out_features)

    def _inner_linears(self) -> list[SpikeUnit]:
        return [*self.shared_fcs, *self.cls_fcs, *self.reg_fcs]

    def init_weights(self) -> None:
        """Apply ``init_cfg`` to the layers; mmdet's Xavier takes whatever it finds among them for matrices."""
        units = self._inner_linears()
        norms = [unit.norm for unit in units]
        for unit in units:
            unit.norm = None
        super().init_weights()
        for unit, norm in zip(units, norms):
            unit.norm = norm


class SpikeConvFCBBoxHead(NormedLinears, SpikingMixin, ConvFCBBoxHead):
    """mmdet's box head of shared and separate branches with a neuron before each layer.

    Args: those of ``mmdet.ConvFCBBoxHead``, and ``neuron``, ``max_spike_count``, ``weight_bits``, ``membrane_driven``,
    ``fc_norm_cfg``: see :class:`NormedLinears`.

    >>> head = SpikeConvFCBBoxHead(
    ...     num_shared_fcs=1, in_channels=16, fc_out_channels=32, roi_feat_size=7, num_classes=5)
    >>> classes, boxes = head(torch.ones(2, 16, 7, 7))
    >>> classes.shape[1], boxes.shape[1]  # 5 classes and the background, 4 box deltas of each class
    (6, 20)
    """


class SpikeShared2FCBBoxHead(NormedLinears, SpikingMixin, Shared2FCBBoxHead):
    """mmdet's box head of two shared linear layers: ``N linear`` twice, then ``N linear`` for classes and boxes.

    Args: those of ``mmdet.Shared2FCBBoxHead``, and ``neuron``, ``max_spike_count``, ``weight_bits``,
    ``membrane_driven``, ``fc_norm_cfg``: without norms most neurons of a head trained from scratch fall silent or
    always fire D spikes.

    >>> head = SpikeShared2FCBBoxHead(
    ...     in_channels=16, fc_out_channels=32, roi_feat_size=7, num_classes=5, fc_norm_cfg=dict(type='BN1d'))
    >>> classes, boxes = head(torch.ones(2, 16, 7, 7))
    >>> classes.shape[1], boxes.shape[1]  # 5 classes and the background, 4 box deltas of each class
    (6, 20)
    """


class SpikeFCNMaskHead(SpikingMixin, FCNMaskHead):
    """mmdet's mask head: four ``N conv3``, ``N deconv``, ``N pw``.

    Args: those of ``mmdet.FCNMaskHead``, and ``neuron``, ``max_spike_count``, ``weight_bits``. ``norm_cfg`` defaults
    to batch norm: without a norm the later layers fall silent.

    >>> head = SpikeFCNMaskHead(num_convs=1, in_channels=16, conv_out_channels=16, num_classes=5)
    >>> head(torch.ones(2, 16, 7, 7)).shape
    torch.Size([2, 5, 14, 14])
    """

    def __init__(self, *args: Any, norm_cfg: Any = dict(type='BN'), **kwargs: Any) -> None:  # noqa: B006
        super().__init__(*args, norm_cfg=norm_cfg, **kwargs)

    def init_weights(self) -> None:
        """Apply ``init_cfg``; units have drawn their weights, and mmdet's own method expects layers in their places."""
        with steps_follow_weights(self), rounding_follows_weights(self):
            BaseModule.init_weights(self)
