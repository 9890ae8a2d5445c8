"""Recognition of a published network from its tensors: its kind, its shape, and the names of its tensors."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from qsdt_mm.compat.renamed import refuse_old_names
from qsdt_mm.errors import CheckpointError, require
from qsdt_mm.models.backbones.presets import ARCH_ZOO, FAMILIES, Arch, resolve_arch
from qsdt_mm.models.quantization import WEIGHT_BITS

from .names import AFTER, DOWNSAMPLES, NameTable, block_groups, name_table

__getattr__ = refuse_old_names(__name__, 'recognise', 'settle_arch')

WEIGHTS = {'model': ('model', 'state_dict'), 'ema': ('model_ema', 'state_dict_ema')}
# Where a published training script may have kept the bits of a weight among its arguments.
BITS_ARGUMENTS = ('weight_bits', 'w_bits', 'nbits_w', 'wbits')
VISIBLE = ('family', 'widths', 'depths', 'stem_kernel', 'pointwise_branch', 'separable_conv')
LAYER_SCALE = 1e-6  # first value, of every published network that has one
# Ends of the names that tell the families apart.
TELLING = {'.Conv.pwconv1.weight': 'qsd', '.Conv.pwconv1.0.weight': 'espike', '.conv1.0.0.weight': 'espike-large'}
# Tensors of masked pre-training that a backbone has no use for.
PRETRAINING = re.compile(r'(decoder_|mask_token$|pos_embed$)')


# Prefixes of names that tell kinds of networks apart; a network without any of them is a classifier or an encoder.
KINDS = {
    'decode_head.': 'semantic-fpn',
    'roi_head.bbox_head.0.': 'cascade-mask-rcnn',
    'roi_head.': 'mask-rcnn',
    'rpn_head.': 'mask-rcnn',
    'bbox_head.': 'retinanet',
}
ANCHORS, RETINA_ANCHORS = 3, 9  # at each position, in the released configs

Shape = Callable[[str, int], torch.Size]


@dataclass(frozen=True)
class Recognised:
    """Findings about a published network from its tensors alone.

    Args:
        kind: 'classifier', 'encoder' (of Spike-MAE), 'event-classifier', 'mask-rcnn', 'cascade-mask-rcnn', 'retinanet'
            or 'semantic-fpn'.
        arch: shape of the backbone, 8 heads and the family's strides assumed.
        names: names of its tensors, published and ours.
        in_channels, num_classes: of the image and the predictions; None: no classifier, but the encoder of Spike-MAE.
        has_steps: whether weights have LSQ steps.
        settings: sizes of neck and heads.

    >>> from qsdt_mm.published.networks import Network, build
    >>> from qsdt_mm.published.reverse import publish
    >>> arch = Arch('espike', widths=(8, 16, 16, 32, 32), depths=(1, 1, 2, 1, 1))
    >>> model = build(Network('classifier', arch, in_channels=3, num_classes=10, weight_bits=32))
    >>> found = infer_network(publish(model.state_dict()).state_dict)
    >>> found.kind, found.arch.depths, found.num_classes
    ('classifier', (1, 1, 2, 1, 1), 10)
    """

    kind: str
    arch: Arch
    names: NameTable
    in_channels: int
    num_classes: int | None
    has_steps: bool
    settings: dict[str, Any]


def arch_config(arch: Arch) -> str | dict[str, Any]:
    """Return an ``arch`` argument for configs: the preset's name, or a dict of plain types."""
    for name, preset in ARCH_ZOO.items():
        if preset == arch:
            return name
        if replace(preset, layer_scale=arch.layer_scale) == arch:
            return dict(preset=name, layer_scale=arch.layer_scale)
    usual = Arch(arch.family, arch.widths)
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(arch).items()}
    return {
        key: value
        for key, value in settings.items()
        if key in ('family', 'widths', 'depths') or getattr(arch, key) != getattr(usual, key)
    }


def find_weights(checkpoint: Any, weights: str = 'model') -> tuple[dict[str, Any], list[str]]:
    """Return a checkpoint's dict of tensors, names without wrappers' prefixes, and remarks on the choice.

    Args:
        checkpoint: what the file holds.
        weights: 'model', or 'ema' for the averaged weights.

    Raises:
        CheckpointError: there are no such weights, or two tensors get the same name.
        ValueError: ``weights`` is neither.
    """
    require(weights in WEIGHTS, 'weights', weights, ' or '.join(WEIGHTS))
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(f'holds a {type(checkpoint).__name__}, not a dict of weights')
    found = {
        kind: key
        for kind, keys in WEIGHTS.items()
        for key in reversed(keys)
        if isinstance(checkpoint.get(key), Mapping)
    }
    if weights in found:
        chosen = checkpoint[found[weights]]
    elif found:
        other, key = found.popitem()
        raise CheckpointError(
            f'has no {weights} weights (under {" or ".join(WEIGHTS[weights])}); weights "{other}" '
            f'are there, under {key}'
        )
    elif weights == 'model' and any(isinstance(value, Tensor) for value in checkpoint.values()):
        chosen = checkpoint
    else:
        raise CheckpointError(
            f'holds no {weights} weights: expected a dict of tensors, or one under '
            f'{" or ".join(WEIGHTS[weights])}; it has {first_few(checkpoint)}'
        )
    notes = []
    if weights == 'model' and 'ema' in found:
        notes.append(f'averaged weights ({found["ema"]}) are there too; weights "ema" takes them')
    tensors: dict[str, Any] = {}
    for name, value in chosen.items():
        if name == 'n_averaged':  # counter of torch's AveragedModel
            continue
        plain = re.sub(r'^head\.fc\.', 'head.', re.sub(r'^(module\.)*(backbone\.)?', '', str(name)))
        if plain in tensors:
            raise CheckpointError(f'holds {plain} more than once, under different prefixes')
        tensors[plain] = value
    return tensors, notes


def first_few(names: Sequence[str] | Mapping[str, Any], most: int = 3) -> str:
    """Return the first few of many names, and how many there are."""
    listed = ', '.join(str(name) for name in list(names)[:most])
    return f'{listed}, ... ({len(names)} in all)' if len(names) > most else listed or 'nothing'


def infer_network(tensors: Mapping[str, Any]) -> Recognised:
    """Infer kind, family and shape of a published network, from names and shapes alone.

    Args:
        tensors: published names without prefixes, and tensors.

    Raises:
        CheckpointError: it is another network, or a tensor that shows the shape is absent.
    """
    family = next((kind for name in tensors for end, kind in TELLING.items() if name.endswith(end)), None)
    if family is None:
        ours = next((name for name in tensors if re.match(r'stages\.\d', name)), None)
        if ours:
            raise CheckpointError(
                f'was trained with this package ({ours}), not with a published implementation: build '
                'the model from its config and load the file there'
            )
        raise CheckpointError(
            'is not a published QSD, E-SpikeFormer or Spike-MAE network: it has no ConvBlock*.Conv.pwconv1 and no '
            f'ConvBlock*.conv1.0; its tensors are {first_few(tensors)}'
        )

    def shape(name: str, dims: int) -> torch.Size:
        if not isinstance(tensors.get(name), Tensor):
            raise CheckpointError(f'has no {name}, which shows the shape of the network')
        if tensors[name].dim() != dims:
            raise CheckpointError(f'has {name} of shape {tuple(tensors[name].shape)}: expected {dims} dimensions')
        return tensors[name].shape

    def some(pattern: str) -> bool:
        return any(re.match(pattern, name) for name in tensors)

    scaled = any(re.search(r'\.layer_scale\d$', name) for name in tensors)
    has_steps = any(name.endswith('.alpha') and '.act.' not in name for name in tensors)
    if family == 'qsd' and not scaled and not has_steps:
        raise CheckpointError(
            "is a Spike-driven Transformer V2 (QSD's names, but neither LSQ steps nor layer scales): its neurons and "
            'scales are others, and this package has no such network'
        )
    num_stages = len(FAMILIES[family].depths)
    large = FAMILIES[family].two_heads
    convs = [shape(f'{name}.encode_conv.weight', 4) for name in DOWNSAMPLES[:num_stages]]
    groups, counts = block_groups(num_stages), {}
    for group in groups:
        found = (re.match(rf'{group}\.(\d{{1,4}})\.', name) for name in tensors)
        counts[group] = len({match.group(1) for match in found if match})
        if not counts[group]:
            raise CheckpointError(f'has no blocks under {group}')
    depths = [sum(counts[group] for group in groups if groups[group] == i) for i in range(num_stages)]
    branch = large and some(r'block3\.\d+\.rep_conv\.')
    separable = family != 'espike' or some(r'block[34]\.\d+\.conv\.')
    try:
        arch = Arch(
            family,
            tuple(conv[0] for conv in convs),
            tuple(depths),
            stem_kernel=convs[0][-1],
            layer_scale=LAYER_SCALE if scaled else None,
            pointwise_branch=branch,
            separable_conv=separable,
        )
    except ValueError as error:
        raise CheckpointError(f'has tensors of impossible shapes: {error}') from error
    kind = next((kind for prefix, kind in KINDS.items() if some(re.escape(prefix))), None)
    if kind is None and large and any(PRETRAINING.match(name) or name == 'norm.weight' for name in tensors):
        kind = 'encoder'
    if kind is None:
        # Published classifiers of still images have no layer scales in this family, those of events have.
        kind = 'event-classifier' if family == 'espike' and (scaled or not separable) else 'classifier'
    num_classes, settings = SHAPES[kind](shape, tensors)
    after = AFTER['two-head classifier' if kind == 'classifier' and large else kind]
    names = name_table(family, counts, branch, after, separable)
    return Recognised(kind, arch, names, convs[0][1], num_classes, has_steps, settings)


def _classifier(shape: Shape, tensors: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    return shape('head.weight', 2)[0], {}


def _encoder(shape: Shape, tensors: Mapping[str, Any]) -> tuple[None, dict[str, Any]]:
    return None, {}


def _mask_rcnn(shape: Shape, tensors: Mapping[str, Any], stage: str = '') -> tuple[int, dict[str, Any]]:
    """Sizes of a Mask R-CNN, of a cascade those of its first stage."""
    boxes, masks = f'roi_head.bbox_head.{stage}', f'roi_head.mask_head.{stage}'
    channels = shape('neck.lateral_convs.0.1.0.conv.weight', 4)[0]
    _expect('rpn_head.rpn_cls.1.0.weight', shape('rpn_head.rpn_cls.1.0.weight', 4)[0], ANCHORS)
    num_classes = shape(f'{boxes}fc_cls.weight', 2)[0] - 1
    deltas = shape(f'{boxes}fc_reg.weight', 2)[0]
    linear = shape(f'{boxes}shared_fcs.0.1.0.weight', 2)
    num_convs = _count(tensors, f'{boxes}shared_convs.')
    before = shape(f'{boxes}shared_convs.0.1.0.conv.weight', 4)[0] if num_convs else channels
    return num_classes, dict(
        fpn_channels=channels,
        rpn_channels=shape('rpn_head.rpn_conv.1.0.weight', 4)[0],
        box_convs=num_convs,
        box_channels=before,
        box_norm=f'{boxes}shared_convs.0.1.0.bn.weight' in tensors,
        box_linears=_count(tensors, f'{boxes}shared_fcs.'),
        fc_channels=linear[0],
        roi_size=isqrt(linear[1] // before),
        class_agnostic=deltas == 4 and num_classes != 1,
        mask_convs=_count(tensors, f'{masks}convs.'),
        mask_channels=shape(f'{masks}conv_logits.1.0.weight', 4)[1],
        mask_norm=f'{masks}convs.0.1.0.bn.weight' in tensors,
    )


def _cascade(shape: Shape, tensors: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    num_classes, settings = _mask_rcnn(shape, tensors, '0.')
    return num_classes, {**settings, 'stages': _count(tensors, 'roi_head.bbox_head.')}


def _retinanet(shape: Shape, tensors: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    _expect('bbox_head.retina_reg.0.weight', shape('bbox_head.retina_reg.0.weight', 4)[0], 4 * RETINA_ANCHORS)
    return shape('bbox_head.retina_cls.0.weight', 4)[0] // RETINA_ANCHORS, dict(
        fpn_channels=shape('neck.lateral_convs.0.1.0.conv.weight', 4)[0],
        feat_channels=shape('bbox_head.cls_convs.1.0.conv.weight', 4)[0],
    )


def _semantic_fpn(shape: Shape, tensors: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    logits = shape('decode_head.conv_seg.weight', 4)
    return logits[0], dict(
        fpn_channels=shape('neck.lateral_convs.0.0.weight', 4)[0],
        head_channels=logits[1],
    )


SHAPES: dict[str, Callable[[Shape, Mapping[str, Any]], tuple[int | None, dict[str, Any]]]] = {
    'classifier': _classifier,
    'event-classifier': _classifier,
    'encoder': _encoder,
    'mask-rcnn': _mask_rcnn,
    'cascade-mask-rcnn': _cascade,
    'retinanet': _retinanet,
    'semantic-fpn': _semantic_fpn,
}
"""Readers of classes and sizes after the backbone, by kind of network."""


def _count(tensors: Mapping[str, Any], prefix: str) -> int:
    """Count the numbers that follow a prefix."""
    found = (re.match(rf'{re.escape(prefix)}(\d{{1,4}})\.', name) for name in tensors)
    return len({match.group(1) for match in found if match})


def _expect(name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise CheckpointError(f'has {name} with {found} outputs: the released configs have {wanted}')


def complete_arch(
    found: Arch,
    wanted: str | dict[str, Any] | None = None,
    num_heads: int | None = None,
    pretraining: bool = False,
) -> Arch:
    """Return the shape of the network: as tensors show it, and as asked for where they show nothing.

    Args:
        found: the recognised shape.
        wanted: preset or dict to check against; its heads and strides are taken. A dict with neither ``preset`` nor
            ``family`` changes ``found``.
        num_heads: attention heads, over all else.
        pretraining: layer scale, which fine-tuning adds, may be absent in ``found``.

    Raises:
        CheckpointError: ``wanted`` differs from what the tensors show.
        ValueError: ``wanted`` is not an architecture.
    """
    arch = found
    if wanted is not None:
        partial = isinstance(wanted, dict) and not {'preset', 'family'} & set(wanted)
        arch = resolve_arch({**asdict(found), **wanted} if partial else wanted)
        # A preset of espike is a classifier of images: other networks of its size have layer scales.
        named = isinstance(wanted, str) and arch.family == found.family == 'espike'
        if named or (pretraining and found.layer_scale is None):
            arch = replace(arch, layer_scale=found.layer_scale)
        differences = [
            f'{name} {getattr(found, name)} instead of {getattr(arch, name)}'
            for name in VISIBLE
            if getattr(found, name) != getattr(arch, name)
        ]
        if (found.layer_scale is None) != (arch.layer_scale is None):
            differences.append(f'{"no" if found.layer_scale is None else "a"} layer scale')
        if differences:
            raise CheckpointError(f'does not fit arch={wanted!r}: it has {"; ".join(differences)}')
    return arch if num_heads is None else replace(arch, num_heads=num_heads)


def dead_kind(name: str, found: Recognised) -> str | None:
    """Return the kind of a tensor that our network has no use for, though it is expected; None for any other.

    Those are QSD's that no forward pass reads, and the decoder and the masks of Spike-MAE.
    """
    if found.kind == 'encoder' and PRETRAINING.match(name):
        return 'decoder_*' if name.startswith('decoder_') else name
    if found.arch.family != 'qsd':
        return None
    match = re.fullmatch(r'(.+?)\.(act\.\w+|init_state)', name)
    if match is None or found.names.ours(f'{match.group(1)}.alpha') is None:
        return None
    return match.group(2) if match.group(2) == 'init_state' else 'act.*'


def argument_bits(checkpoint: Any) -> int | None:
    """Return the bits of a weight as the training script's arguments say, if they do."""
    said = _arguments(checkpoint, BITS_ARGUMENTS)
    return next((bits for bits in said if isinstance(bits, int) and bits in WEIGHT_BITS), None)


def argument_time_steps(checkpoint: Any) -> int | None:
    """Return T as the training script's arguments say, if they do."""
    said = _arguments(checkpoint, ('time_steps',))
    return next((steps for steps in said if type(steps) is int and steps >= 1), None)


def _arguments(checkpoint: Any, names: Sequence[str]) -> list[Any]:
    """Return the values of the training script's arguments of some names."""
    arguments = checkpoint.get('args') if isinstance(checkpoint, Mapping) else None
    arguments = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    return [arguments.get(name) for name in names] if isinstance(arguments, Mapping) else []
