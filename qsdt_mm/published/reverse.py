"""The way back: state dicts of classifiers of this package under the published names, for the papers' own code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qsdt_mm.errors import CheckpointError
from qsdt_mm.models.backbones.presets import CONV_STAGES, FAMILIES, Arch
from qsdt_mm.models.quantization.lsq import MIN_STEP

from .names import CLASSIFIER, TWO_HEADS, NameTable, block_groups, name_table
from .recognition import first_few

STEP = '.quantizer.step'
# Names of our tensors that tell the families apart, the more telling first.
TELLING = {
    r'backbone\.stages\.3\.blocks\.0\.\d\.branch\.query\.synapse\.1\.norm\.weight': 'qsd',
    r'backbone\.stages\.3\.blocks\.0\.\d\.branch\.query\.synapse\.0\.weight': 'espike-large',
    r'backbone\.stages\.3\.blocks\.0\.\d\.branch\.query\.synapse\.weight': 'espike',
}
# Published 1-D convolutions, whose weights lack the last dimension.
ONE_DIMENSIONAL = {
    'qsd': r'block\d\.\d+\.mlp\.fc\d_conv\.weight',
    'espike': r'block\d\.\d+\.mlp\.fc\d_conv\.weight',
    'espike-large': r'block3\.\d+\.(mlp\.fc\d_conv|rep_conv\.conv\d\.0|attn\.\w+\.0\.conv\d\.0)\.weight',
}
DEAD = ('alpha', 'zero_point', 'init_state', 'signed')
"""Parameters of the published quantizers of activations, which no forward pass reads: zeros, two of them by channel."""


@dataclass
class Publication:
    """A network under its published names.

    Args:
        arch: shape of the network.
        in_channels, num_classes: of the image and the classifier.
        state_dict: tensors by the published names, in the published order.
        added: tensors that the published code wants beside ours, by kind.
        notes: what the user should know, in sentences.

    >>> from qsdt_mm.published.networks import Network, build
    >>> arch = Arch('espike', widths=(8, 16, 16, 32, 32), depths=(1, 1, 2, 1, 1))
    >>> model = build(Network('classifier', arch, in_channels=3, num_classes=10, weight_bits=32))
    >>> next(iter(publish(model.state_dict()).state_dict))
    'downsample1_1.encode_conv.weight'
    """

    arch: Arch
    in_channels: int
    num_classes: int
    state_dict: dict[str, Tensor]
    added: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def publish(state: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> Publication:
    """Return a classifier's tensors under the names that the papers' code loads.

    What that code cannot be told is refused: other stems and strides, LSQ in E-SpikeFormer or none in QSD. Beside each
    LSQ step go ``init_state`` = 1, without which it would set the step anew, and the quantizer of activations that
    nothing uses.

    Args:
        state: ``state_dict`` of an ``ImageClassifier`` of this package, ``backbone.*`` and ``head.*``.
        meta: what the file says of the network, if this package converted it.

    Raises:
        CheckpointError: it is another network, or one that the papers' code does not have; one line.
    """
    families = (family for pattern, family in TELLING.items() for name in state if re.fullmatch(pattern, name))
    family = next(families, None)
    if family is None:
        raise CheckpointError(
            'is no classifier of this package: it has no backbone.stages.3.blocks.0.*.branch.query, its tensors are '
            f'{first_few(state)}'
        )
    arch, counts, names = _recognise(state, family)
    notes = {name: note for name, note in getattr(state, '_metadata', {}).items() if isinstance(note, Mapping)}
    _refuse_others(arch, state, meta or {}, notes)
    tensors: dict[str, Tensor] = {}
    left = dict(state)
    missing = []
    for published, ours in names.lines.items():
        if ours in left:
            tensors[published] = left.pop(ours)
        elif _wanted(published, ours, state, arch):
            missing.append(ours)
    faults = [f'{words} {first_few(found)}' for words, found in (('lacks', missing), ('has left over', left)) if found]
    if faults:
        raise CheckpointError('; '.join(faults))
    result = Publication(arch, state[IMAGE].shape[1], tensors['head.weight'].shape[0], {})
    if FAMILIES[family].rounding != 'half_up' and not any('rounding' in note for note in notes.values()):
        result.notes.append(
            'there is no rounding rule on record: what was trained before it was recorded rounded halves up, the '
            'published code rounds them to even'
        )
    for name, tensor in tensors.items():
        if re.fullmatch(ONE_DIMENSIONAL[family], name):
            tensor = tensor.squeeze(-1)
        if name.endswith('.alpha'):
            # A step acts by its magnitude here, and not below the smallest.
            tensor = tensor.abs().clamp_min(MIN_STEP)
        result.state_dict[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        if name.endswith('.alpha'):
            _add_quantizers(result, name.removesuffix('alpha'))
    return result


IMAGE = 'backbone.stages.0.downsample.synapse.weight'


def _recognise(state: Mapping[str, Any], family: str) -> tuple[Arch, dict[str, int], NameTable]:
    """Shape of the network, blocks in each published group, and the names."""
    num_stages = len(FAMILIES[family].depths)
    convs = []
    for i in range(num_stages):
        name = f'backbone.stages.{i}.downsample.synapse.weight'
        if not isinstance(state.get(name), Tensor) or state[name].dim() != 4:
            raise CheckpointError(f'has no {name}, which shows the shape of the network')
        convs.append(state[name].shape)
    blocks = [
        {m.group(1) for m in (re.match(rf'backbone\.stages\.{i}\.blocks\.(\d+)\.', name) for name in state) if m}
        for i in range(num_stages)
    ]
    depths = tuple(map(len, blocks))
    block = 'backbone.stages.3.blocks.0.'
    shortcuts = {name[len(block)] for name in state if name.startswith(block)}
    branch = family == 'espike-large' and len(shortcuts) == 3
    separable = family != 'espike' or len(shortcuts) == 3
    try:
        arch = Arch(
            family,
            tuple(conv[0] for conv in convs),
            depths,
            stem_kernel=convs[0][-1],
            layer_scale=1e-6 if any('.gain.' in name for name in state) else None,
            pointwise_branch=branch,
            separable_conv=separable,
        )
    except ValueError as error:
        raise CheckpointError(f'has tensors of impossible shapes: {error}') from error
    released = FAMILIES[family].depths[:CONV_STAGES]
    if depths[:CONV_STAGES] != released or not all(depths):
        raise CheckpointError(f'has {depths} blocks in its stages: the published code has {released} in the first')
    counts = {group: 1 if stage < CONV_STAGES else depths[stage] for group, stage in block_groups(num_stages).items()}
    after = TWO_HEADS if FAMILIES[family].two_heads else CLASSIFIER
    return arch, counts, name_table(family, counts, branch, after, separable)


def _wanted(published: str, ours: str, state: Mapping[str, Any], arch: Arch) -> bool:
    """Return whether the published code has a tensor of the table."""
    if published.endswith('.alpha'):
        return arch.family == 'qsd'
    if '.layer_scale' in published:
        shortcut = int(re.search(r'\.(\d)\.gain\.', ours).group(1))
        last = 2 if arch.family == 'espike' and arch.separable_conv or arch.pointwise_branch else 1
        return arch.layer_scale is not None and shortcut <= last
    return True


def _refuse_others(arch: Arch, state: Mapping[str, Any], meta: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
    """Refuse what the published code cannot be told."""
    wanted = FAMILIES[arch.family].rounding
    for name, note in notes.items():
        rounding = note.get('rounding', wanted)
        if rounding != wanted:
            raise CheckpointError(f'has neurons that round {rounding!r} ({name}): the published ones round {wanted!r}')
    steps = next((name for name in state if name.endswith(STEP)), None)
    if arch.family != 'qsd' and steps:
        raise CheckpointError(f'has LSQ steps ({steps}): the published E-SpikeFormer has none')
    if arch.family == 'qsd' and arch.layer_scale is None:
        raise CheckpointError('has no layer scales: the published QSD has them')
    if arch.widths[1] != 2 * arch.widths[0]:
        raise CheckpointError(f'has widths {arch.widths}: the first published stage is half as wide as the second')
    if arch.stem_kernel != 7:
        raise CheckpointError(f'has a first convolution of {arch.stem_kernel} px: the published one has 7')
    bits = meta.get('weight_bits', 4 if steps else 32)
    if steps and bits != 4:
        raise CheckpointError(f'has weights of {bits} bits: those of the published code have 4')
    if arch.family == 'qsd' and not steps:
        raise CheckpointError('has no LSQ steps: the published QSD has 4-bit weights')
    said = meta.get('arch')
    if isinstance(said, dict):
        for name, wanted in (('num_heads', 8), ('strides', list(FAMILIES[arch.family].strides))):
            found = said.get(name, wanted)
            if (list(found) if isinstance(found, (list, tuple)) else found) != wanted:
                raise CheckpointError(f'was built with {name}={found}: the published code has {wanted}')


def _add_quantizers(result: Publication, layer: str) -> None:
    """Add the companions of a published LSQ step: ``init_state``, and the quantizer of activations."""
    weight = result.state_dict[f'{layer}weight']
    # Channels that come in: of depthwise convolutions as many as go out.
    channels = len(weight) if weight.dim() == 4 and weight.shape[1] == 1 else weight.shape[1]
    added = {'init_state': torch.ones(1)}
    added |= {f'act.{name}': torch.zeros(channels if name in DEAD[:2] else 1) for name in DEAD}
    for name, tensor in added.items():
        result.state_dict[layer + name] = tensor
        kind = 'init_state' if name == 'init_state' else 'act.*'
        result.added[kind] = result.added.get(kind, 0) + 1


def built_with(result: Publication) -> str:
    """Return the arguments to build the published network with."""
    widths = list(result.arch.widths[1:])
    depth = sum(result.arch.depths[CONV_STAGES:])
    return f'embed_dim={widths}, depths={depth}, in_channels={result.in_channels}, num_classes={result.num_classes}'
