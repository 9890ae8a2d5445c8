"""Published networks as model configs: what tensors show, and what the released scripts set beside it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from qsdt_mm.compat.distributions import to_install
from qsdt_mm.errors import InputError, require, require_positive, require_positive_int
from qsdt_mm.models.backbones import SpikeDrivenTransformer
from qsdt_mm.models.backbones.presets import FAMILIES, NUM_OUTPUTS, Arch
from qsdt_mm.models.layers import SpikeUnit, make_neuron
from qsdt_mm.models.quantization import QuantLinear

from .recognition import arch_config

LIBRARIES = {
    'classifier': 'mmpretrain',
    'event-classifier': 'mmpretrain',
    'mask-rcnn': 'mmdet',
    'cascade-mask-rcnn': 'mmdet',
    'retinanet': 'mmdet',
    'semantic-fpn': 'mmseg',
}
"""The library that each kind of network runs in."""
OPTIONS = {
    'classifier': ('max_spike_count',),
    'event-classifier': ('max_spike_count', 'spike_worth', 'stateful', 'time_steps'),
    'encoder': ('max_spike_count',),
    'mask-rcnn': ('max_spike_count', 'neck_max_spike_count'),
    'cascade-mask-rcnn': ('max_spike_count', 'neck_max_spike_count'),
    'retinanet': ('max_spike_count', 'neck_max_spike_count'),
    'semantic-fpn': ('max_spike_count', 'spike_worth'),
}
"""Settings of each kind that its tensors do not show, and that may be given."""
_BOX_AND_MASK = (
    'fpn_channels',
    'rpn_channels',
    'box_convs',
    'box_channels',
    'box_norm',
    'box_linears',
    'fc_channels',
    'roi_size',
    'class_agnostic',
    'mask_convs',
    'mask_channels',
    'mask_norm',
)
SIZES = {
    'mask-rcnn': _BOX_AND_MASK,
    'cascade-mask-rcnn': (*_BOX_AND_MASK, 'stages'),
    'retinanet': ('fpn_channels', 'feat_channels'),
    'semantic-fpn': ('fpn_channels', 'head_channels'),
}
"""Sizes of neck and heads, which the tensors of a kind show."""
NORMALISE = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])  # statistics of ImageNet
# The released configs tell anchors and RoIAlign these strides, though the maps' are 4, 8, 16, 16 and 32.
ANCHOR_STRIDES, ROI_STRIDES, RETINA_STRIDES = [4, 8, 16, 32, 64], [4, 8, 16, 32], [8, 16, 32, 64, 128]
SEGMENTATION_STRIDES = [2, 4, 8, 16]


@dataclass
class Network:
    """Description of a published network, enough to build it again.

    Args:
        kind: as in :class:`~qsdt_mm.published.recognition.Recognised`.
        arch: shape of the backbone.
        in_channels, num_classes: of the image and the predictions; no classes: the encoder of Spike-MAE.
        weight_bits: of the backbone (and of a classifier): 2, 3, 4, 8 or 32.
        settings: sizes of neck and heads, and the :data:`OPTIONS` of the kind; of these the released are
            taken where they are not given.

    >>> from qsdt_mm.models.backbones.presets import resolve_arch
    >>> Network('classifier', resolve_arch('qsd-15m'), in_channels=3, num_classes=1000, weight_bits=4).settings
    {'max_spike_count': 4}
    """

    kind: str
    arch: Arch
    in_channels: int
    num_classes: int | None
    weight_bits: int
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = {**released_options(self.kind, self.arch), **self.settings}


def released_options(kind: str, arch: Arch) -> dict[str, Any]:
    """Return the values of the released scripts where tensors show nothing, by the names of :data:`OPTIONS`."""
    stateful = not arch.separable_conv
    max_spike_count = 8 if kind == 'event-classifier' and stateful else 4
    values = dict(
        max_spike_count=max_spike_count,
        neck_max_spike_count=1,
        time_steps=8,
        stateful=stateful,
        spike_worth=(1 / max_spike_count if stateful else 1.0) if kind == 'event-classifier' else 0.25,
    )
    return {name: values[name] for name in OPTIONS[kind]}


def settle_options(kind: str, arch: Arch, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a network: those given, else the released ones.

    Raises:
        ValueError: an option is out of range, or means nothing for this kind of network.
    """
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        require(name in OPTIONS[kind], name, value, f'nothing: a {kind} takes {", ".join(OPTIONS[kind])}')
        if name == 'spike_worth':
            require_positive(name, value)
        elif name == 'stateful':
            require(isinstance(value, bool), name, value, 'True or False')
        else:
            require_positive_int(name, value)
    settled = {**released_options(kind, arch), **given}
    if kind == 'event-classifier' and settled['stateful'] and 'spike_worth' not in given:
        settled['spike_worth'] = 1 / settled['max_spike_count']
    return settled


def integrate_and_fire(scale: float, **constants: Any) -> dict[str, Any]:
    """Return the config of the neuron of published necks and heads: threshold 1, halves to even."""
    return dict(type='IELIF', threshold=1.0, scale=scale, rounding='half_even', **constants)


def model_config(network: Network, out_indices: Sequence[int] = (NUM_OUTPUTS - 1,), **overrides: Any) -> dict[str, Any]:
    """Return the config of the whole model, for the library of :data:`LIBRARIES`.

    Args:
        network: what to build; no encoder.
        out_indices: stages that a classifier's backbone puts out.
        overrides: arguments of the backbone.

    Raises:
        InputError: mmdet's own configs, which detectors are based on, are not installed.
    """
    if network.kind == 'semantic-fpn':
        return _segmentor(network, overrides)
    if LIBRARIES[network.kind] == 'mmdet':
        return _detector(network, overrides)
    return _classifier(network, out_indices, overrides)


def backbone_arguments(network: Network, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``SpikeDrivenTransformer`` beside its shape: the network's own, and those given."""
    settings, arguments = network.settings, dict(max_spike_count=network.settings['max_spike_count'])
    if network.kind == 'event-classifier':
        # Of a network without state the neurons see T frames as so many images.
        time = {} if settings['stateful'] else dict(time_steps=1)
        neuron = integrate_and_fire(settings['spike_worth'], **time)
        arguments.update(neuron=neuron, time_steps=settings['time_steps'], time_mean=False)
    return {**arguments, **overrides}


def head_neuron(network: Network, backbone: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of the neuron before a classifier, as far as the weights' own notes do not say it."""
    if network.kind == 'event-classifier':
        return {**backbone['neuron'], 'scale': 1.0}
    neuron = FAMILIES[network.arch.family].head_neuron
    return {key: value for key, value in neuron.items() if key != 'rounding'}


def _backbone(network: Network, out_indices: Sequence[int], overrides: Mapping[str, Any]) -> dict[str, Any]:
    return dict(
        type='SpikeDrivenTransformer',
        arch=arch_config(network.arch),
        in_channels=network.in_channels,
        weight_bits=network.weight_bits,
        **{'out_indices': tuple(out_indices), **backbone_arguments(network, overrides)},
    )


def _classifier(network: Network, out_indices: Sequence[int], overrides: Mapping[str, Any]) -> dict[str, Any]:
    family = FAMILIES[network.arch.family]
    backbone = _backbone(network, out_indices, overrides)
    time_steps = backbone.get('time_steps', 1)
    time_mean = backbone.setdefault('time_mean', time_steps == 1)
    return dict(
        type='ImageClassifier',
        data_preprocessor=dict(
            num_classes=network.num_classes,
            **dict(NORMALISE, to_rgb=True) if network.in_channels == 3 else {},
        ),
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='SpikeTwoHeadClsHead' if family.two_heads else 'SpikeLinearClsHead',
            num_classes=network.num_classes,
            in_channels=network.arch.widths[-1],
            neuron=head_neuron(network, backbone),
            weight_bits=network.weight_bits,
            max_spike_count=backbone['max_spike_count'],
            time_steps=1 if time_mean else time_steps,
            loss=dict(type='CrossEntropyLoss'),
        ),
    )


def _segmentor(network: Network, overrides: Mapping[str, Any]) -> dict[str, Any]:
    settings, widths = network.settings, network.arch.widths
    neuron, channels = integrate_and_fire(settings['spike_worth']), settings['fpn_channels']
    return dict(
        type='EncoderDecoder',
        # Images are not padded when tested, as in the released configs.
        data_preprocessor=dict(type='SegDataPreProcessor', **NORMALISE, bgr_to_rgb=True, pad_val=0, seg_pad_val=255),
        backbone=_backbone(network, (0, 1, 2, 4), overrides),
        neck=dict(
            type='SpikeFPN',
            in_channels=[widths[i] for i in (0, 1, 2, 4)],
            out_channels=channels,
            num_outs=4,
            norm_cfg=dict(type='BN'),
            neuron=neuron,
        ),
        decode_head=dict(
            type='SpikeFPNHead',
            in_channels=[channels] * 4,
            in_index=[0, 1, 2, 3],
            feature_strides=SEGMENTATION_STRIDES,
            channels=settings['head_channels'],
            num_classes=network.num_classes,
            dropout_ratio=0.0,
            norm_cfg=dict(type='BN'),
            align_corners=False,
            neuron=dict(neuron),
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        ),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )


def stock_config(*names: str) -> dict[str, Any]:
    """Return mmdet's own configs, by their paths there, as plain types.

    Raises:
        InputError: mmdet is not installed.
    """
    import_library('mmdet')
    config = Config.fromstring(f'_base_ = {[f"mmdet::{name}" for name in names]!r}', '.py')
    return _without_scope(config.to_dict())


def _without_scope(value: Any) -> Any:
    """A copy without the scopes that mmengine notes in configs of other packages."""
    if isinstance(value, dict):
        return {key: _without_scope(item) for key, item in value.items() if key != '_scope_'}
    return type(value)(_without_scope(item) for item in value) if isinstance(value, (list, tuple)) else value


STOCK = {
    'mask-rcnn': '_base_/models/mask-rcnn_r50_fpn.py',
    'cascade-mask-rcnn': '_base_/models/cascade-mask-rcnn_r50_fpn.py',
    'retinanet': '_base_/models/retinanet_r50_fpn.py',
}
"""mmdet's config that each detector is based on, here as in the released repositories."""


def _detector(network: Network, overrides: Mapping[str, Any]) -> dict[str, Any]:
    settings = network.settings
    model, channels = stock_config(STOCK[network.kind])['model'], settings['fpn_channels']
    model['backbone'] = _backbone(network, (1, 2, 3, 4), overrides)
    model['neck'].update(
        type='SpikeFPN',
        in_channels=list(network.arch.widths[1:]),
        out_channels=channels,
        neuron=integrate_and_fire(1.0),
        max_spike_count=settings['neck_max_spike_count'],
    )
    if network.kind == 'retinanet':
        model['bbox_head'].update(
            type='SpikeRetinaHead',
            num_classes=network.num_classes,
            in_channels=channels,
            feat_channels=settings['feat_channels'],
            neuron=dict(type='LIF', tau=2.0),
            shared_neuron=True,
        )
        model['bbox_head']['anchor_generator'].update(strides=RETINA_STRIDES)
        return model
    model['rpn_head'].update(
        type='SpikeRPNHead',
        in_channels=channels,
        feat_channels=settings['rpn_channels'],
        neuron=integrate_and_fire(1.0),
    )
    model['rpn_head']['anchor_generator'].update(strides=ANCHOR_STRIDES)
    roi_head = model['roi_head']
    for extractor, size in (('bbox_roi_extractor', settings['roi_size']), ('mask_roi_extractor', 14)):
        roi_head[extractor].update(out_channels=channels, featmap_strides=ROI_STRIDES)
        roi_head[extractor]['roi_layer'].update(output_size=size)
    # The last shared linear layer is folded into those for classes and boxes, which have no neuron of their own.
    box_head = dict(
        type='SpikeConvFCBBoxHead',
        num_shared_convs=settings['box_convs'],
        num_shared_fcs=settings['box_linears'] - 1,
        in_channels=channels,
        conv_out_channels=settings['box_channels'],
        fc_out_channels=settings['fc_channels'],
        roi_feat_size=settings['roi_size'],
        num_classes=network.num_classes,
        reg_class_agnostic=settings['class_agnostic'],
        norm_cfg=dict(type='BN') if settings['box_norm'] else None,
        neuron=integrate_and_fire(1.0),
    )
    if network.kind == 'cascade-mask-rcnn':
        extra = dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss', loss_weight=10.0))
        roi_head['bbox_head'] = [dict(head, **box_head, **extra) for head in roi_head['bbox_head']]
    else:
        roi_head['bbox_head'].update(box_head)
    roi_head['mask_head'].update(
        type='SpikeFCNMaskHead',
        num_convs=settings['mask_convs'],
        in_channels=channels,
        conv_out_channels=settings['mask_channels'],
        num_classes=network.num_classes,
        norm_cfg=dict(type='BN') if settings['mask_norm'] else None,
        neuron=integrate_and_fire(1.0),
    )
    return model


def import_library(name: str) -> None:
    """Import the models of a library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import_module(f'{name}.models')
    except ModuleNotFoundError as error:
        if (error.name or '').partition('.')[0] != name:
            raise
        raise InputError(
            f'this network is one of {name}, which is not installed: pip install {to_install(name)}'
        ) from None


def build(network: Network, **options: Any) -> nn.Module:
    """Build the model, with new weights, in evaluation mode.

    Args:
        network: what to build; no encoder.
        options: those of :func:`model_config`.

    Raises:
        InputError: the library that it is a network of is not installed.
        ValueError: an argument is out of range.
    """
    library = LIBRARIES[network.kind]
    import_library(library)
    with DefaultScope.overwrite_default_scope(library):
        return MODELS.build(ConfigDict(model_config(network, **options))).eval()


def skeleton(network: Network) -> OrderedDict[str, torch.Tensor]:
    """Return a converted checkpoint's state dict on the meta device: no values, but torch's notes on modules.

    Raises:
        InputError: there is no such network, or the library that it is one of is not installed.
    """
    with torch.device('meta'):
        try:
            if network.kind in ('classifier', 'event-classifier', 'encoder'):  # do without mmpretrain
                return nn.ModuleDict(_parts(network)).state_dict()
            return build(network).state_dict()
        except InputError:
            raise
        except ValueError as error:
            raise InputError(str(error)) from error


def expected_tensors(network: Network) -> dict[str, torch.Size]:
    """Return names and shapes of the tensors of a converted checkpoint.

    Raises:
        InputError: there is no such network, or the library that it is one of is not installed.
    """
    return {name: tensor.shape for name, tensor in skeleton(network).items()}


def _parts(network: Network) -> dict[str, nn.Module]:
    """Backbone and what follows it of a classifier or an encoder."""
    width, bits, family = network.arch.widths[-1], network.weight_bits, FAMILIES[network.arch.family]
    arguments = backbone_arguments(network, {})
    parts = {'backbone': SpikeDrivenTransformer(network.arch, network.in_channels, weight_bits=bits, **arguments)}
    if network.kind == 'encoder':
        return {**parts, 'norm': nn.BatchNorm2d(width)}
    neuron = head_neuron(network, arguments)
    fires, sees = make_neuron(neuron, network.settings['max_spike_count'], 1, preset=family.head_neuron), None
    heads = {'fc': sees, 'fc_dist': fires} if family.two_heads else {'fc': fires}
    units = {
        name: SpikeUnit(neuron, QuantLinear(width, network.num_classes, weight_bits=bits), input_kind='membrane')
        for name, neuron in heads.items()
    }
    return {**parts, 'head': nn.ModuleDict(units)}
