"""State dicts of published networks, converted to this package's names.

What the tensors show (kind, family, widths, depths, input channels, stem kernel, classes, sizes of neck and heads,
whether weights have LSQ steps) is read from them; what they cannot show (heads, strides, bits, D, T, worth of a spike)
takes the published value unless it is given.
"""

from __future__ import annotations

import os
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qsdt_mm.errors import CheckpointError
from qsdt_mm.models.backbones.presets import FAMILIES
from qsdt_mm.models.quantization import LSQ, check_weight_bits
from qsdt_mm.models.quantization.lsq import MIN_STEP
from qsdt_mm.version import __version__

from .networks import Network, expected_tensors, settle_options, skeleton
from .recognition import (
    arch_config,
    argument_bits,
    argument_time_steps,
    complete_arch,
    dead_kind,
    find_weights,
    first_few,
    infer_network,
)

FORMAT = 'qsdt_mm'
QSD_BITS = 4
STEP = '.quantizer.step'
COUNTER = '.num_batches_tracked'


@dataclass
class Conversion(Network):
    """A converted network and how it came about.

    Args:
        state_dict: tensors by this package's names: ``backbone.*``, then ``head.*``, or those of neck and heads; of an
            encoder ``norm.*``, the norm that closes it in pre-training.
        rounding: what the backbone's neurons do on a half, which tensors do not show: as the published networks of the
            family. None: a file that was converted before this was recorded.
        dataset_meta: names and colours of the classes, where the file has them.
        matched: tensors taken from the checkpoint.
        dropped: tensors left behind, by kind.
        missing: tensors the checkpoint lacks and that were filled in with their first value.
        derived: LSQ steps derived from the weights.
        folded: tensors that went into others.
        notes: what else the user should know, in sentences.

    >>> from qsdt_mm.models.backbones.presets import Arch
    >>> from qsdt_mm.published.networks import build
    >>> from qsdt_mm.published.reverse import publish
    >>> arch = Arch('espike', widths=(8, 16, 16, 32, 32), depths=(1, 1, 2, 1, 1))
    >>> model = build(Network('classifier', arch, in_channels=3, num_classes=10, weight_bits=32))
    >>> conversion = convert(publish(model.state_dict()).state_dict)
    >>> conversion.kind, conversion.missing, conversion.state_dict.keys() == model.state_dict().keys()
    ('classifier', [], True)
    """

    state_dict: dict[str, Tensor] = field(default_factory=dict)
    rounding: str | None = None
    dataset_meta: dict[str, Any] = field(default_factory=dict)
    matched: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def meta(self, source: str) -> dict[str, Any]:
        """Return the record from which a reader builds the network again; plain types only."""
        return dict(
            format=f'{FORMAT} {self.kind}',
            version=__version__,
            source=source,
            family=self.arch.family,
            arch=arch_config(self.arch),
            in_channels=self.in_channels,
            num_classes=self.num_classes,
            weight_bits=self.weight_bits,
            rounding=self.rounding,
            settings=dict(self.settings),
            **dict(dataset_meta=self.dataset_meta) if self.dataset_meta else {},
        )

    def weights(self, file: str | os.PathLike | None = None) -> OrderedDict[str, Tensor]:
        """Return the tensors with torch's notes on modules, which say what neurons do on a half.

        Args:
            file: where they are from, for messages.
        """
        weights = OrderedDict(self.state_dict)
        weights._metadata = skeleton(self)._metadata
        for name, notes in weights._metadata.items():
            if 'rounding' in notes and self.rounding is None:
                del notes['rounding']
                notes['version'] = 1
            elif 'rounding' in notes and name.startswith(('backbone.', 'head.')):
                notes['rounding'] = self.rounding
            if file is not None:
                notes['file'] = str(file)
        return weights

    def report(self) -> dict[str, Any]:
        """Return the figures of the conversion; plain types only."""
        names = ('matched', 'dropped', 'missing', 'derived', 'folded', 'notes')
        return {name: getattr(self, name) for name in names}


def convert(
    checkpoint: Any,
    *,
    arch: str | dict[str, Any] | None = None,
    num_heads: int | None = None,
    weight_bits: int | None = None,
    weights: str = 'model',
    **options: Any,
) -> Conversion:
    """Convert a published checkpoint, as loaded from its file.

    Args:
        checkpoint: a dict of tensors, or one that has such a dict under ``model``, ``state_dict`` or ``model_ema``.
        arch: preset or dict that the tensors must fit; None takes what they show.
        num_heads: attention heads; None: 8, or those of ``arch``.
        weight_bits: 2, 3, 4, 8 or 32 (no LSQ). None: 32 without LSQ steps, else what the arguments in the checkpoint
            say, else 4.
        weights: 'model', or 'ema' for the averaged weights.
        options: what else tensors do not show, as far as the kind of network has it: ``max_spike_count`` (D of the
            backbone), ``neck_max_spike_count`` (D of a detector's neck), ``spike_worth`` (of a segmentor's neck and
            head, of a network for events), ``time_steps`` and ``stateful`` (of a network for events: T, and whether
            membranes are carried from frame to frame). None: as the released scripts.

    Raises:
        CheckpointError: the checkpoint is of another network, lacks tensors, has tensors that nothing explains, or
            values that cannot be represented; one line that names the first few.
        InputError: the network is one of a library that is not installed.
        ValueError: an argument is out of range.
    """
    if weight_bits is not None:
        check_weight_bits(weight_bits)
    tensors, notes = find_weights(checkpoint, weights)
    found = infer_network(tensors)
    shape = complete_arch(found.arch, arch, num_heads, pretraining=found.kind == 'encoder')
    said = argument_bits(checkpoint)
    bits = weight_bits
    if bits is None:
        bits = (said or QSD_BITS) if found.has_steps else 32
        if found.has_steps and said is None:
            notes.append(f'weight_bits={bits} is assumed: tensors do not show it')
    elif found.has_steps and said not in (None, bits):
        notes.append(f'weight_bits={bits} as asked, though the arguments in the checkpoint say {said}')
    if found.kind == 'event-classifier' and options.get('time_steps') is None:
        options['time_steps'] = argument_time_steps(checkpoint)
    settled = settle_options(found.kind, shape, options)
    result = Conversion(
        found.kind, shape, found.in_channels, found.num_classes, bits, {**found.settings, **settled}, notes=notes
    )
    result.rounding = FAMILIES[shape.family].rounding
    notes += assumptions(result, [name for name in settled if options.get(name) is None])
    result.dataset_meta = dataset_meta(checkpoint, found.num_classes, notes)

    dropped: Counter[str] = Counter()
    unset, unknown = set(), []
    for name, tensor in tensors.items():
        ours, kind = found.names.ours(name), dead_kind(name, found)
        if not isinstance(tensor, Tensor):
            unknown.append(name)
        elif kind is not None:
            dropped[kind] += 1
            if kind == 'init_state' and not tensor.any():
                unset.add(found.names.ours(name.replace('.init_state', '.alpha')))
        elif ours is None:
            unknown.append(name)
        else:
            result.state_dict[ours] = tensor.detach()
    result.dropped = dict(dropped)
    fit(result, found.names.published, unset, unknown)
    return result


def assumptions(network: Network, assumed: Sequence[str]) -> list[str]:
    """Return the settings taken from the released scripts, and the changes of form, in sentences.

    Args:
        network: what came out.
        assumed: options that nobody gave.
    """
    settings, notes = network.settings, []
    values = ', '.join(f'{name}={settings[name]}' for name in assumed)
    if values and network.kind not in ('classifier', 'encoder'):
        notes.append(f'{values} as in the released scripts: tensors do not show it')
    if 'neck_max_spike_count' in settings:
        notes.append(
            'neurons of the released neck fire up to 4 spikes in training and 1 when tested: '
            'neck_max_spike_count=1 gives its evaluation, neck_max_spike_count=4 is what to train on'
        )
    if 'box_linears' in settings:
        notes.append(
            'the last shared linear layer of the box head is folded into those for classes and boxes, which have no '
            'neuron of their own, so that spikes drive every layer'
        )
    if network.kind == 'cascade-mask-rcnn':
        notes.append('no output of a published Cascade Mask R-CNN was there to compare with: names and shapes only')
    if network.kind == 'retinanet':
        notes.append('scores and boxes share one neuron, which carries its membrane over, as published')
    if network.kind == 'semantic-fpn':
        notes.append('biases of the convolutions of the neck are in the means of the norms that follow')
    if network.kind == 'event-classifier' and settings['stateful']:
        notes.append('no script was released for this network: the data set in the config is a choice of ours')
    elif network.kind == 'event-classifier':
        notes.append('no membrane is carried from frame to frame: the network does not use the order of its frames')
    return notes


def dataset_meta(checkpoint: Any, num_classes: int | None, notes: list[str]) -> dict[str, Any]:
    """Return names (and colours) of the classes from mmengine's ``meta``; none if they do not fit, which is noted."""
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    found = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    found = {str(name).lower(): value for name, value in found.items()}
    classes, palette = found.get('classes'), found.get('palette')
    if not isinstance(classes, (list, tuple)) or not all(isinstance(name, str) for name in classes):
        return {}
    if len(classes) != num_classes:
        notes.append(f'dataset_meta names {len(classes)} classes, the weights have {num_classes}: names left out')
        return {}
    result: dict[str, Any] = dict(classes=tuple(classes))
    if isinstance(palette, (list, tuple)) and len(palette) == len(classes):
        colours = [tuple(c) for c in palette if isinstance(c, (list, tuple))]
        if len(colours) == len(classes) and all(
            len(c) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in c) for c in colours
        ):
            result['palette'] = colours
    return result


def fit(
    result: Conversion,
    original: Callable[[str], str],
    unset: set[str | None] = frozenset(),
    unknown: Sequence[str] = (),
) -> None:
    """Bring ``result.state_dict`` into the form of the network that ``result`` describes, or refuse.

    Args:
        result: changed in place.
        original: name in the file of one of our tensors, for messages.
        unset: LSQ steps that were never given a value.
        unknown: further names in the file, which nothing explains.

    Raises:
        CheckpointError: the tensors are not those of the network.
    """
    bits, state = result.weight_bits, result.state_dict
    expected = expected_tensors(result)
    halves = _merge_linears(result)
    _merge_biases(result, expected)
    steps = [name for name in state if name.endswith(STEP)]
    if bits == 32 and steps:
        for name in steps:
            del state[name]
        result.dropped['LSQ steps (weight_bits=32)'] = len(steps)
    derived = {name for name in expected if name.endswith(STEP) and (name in unset or not steps)}
    for name in derived & set(state):
        del state[name]
        result.dropped['LSQ steps without a value'] = result.dropped.get('LSQ steps without a value', 0) + 1
    counters = {name for name in expected if name.endswith(COUNTER)}

    missing = [original(name) for name in halves]
    missing += [original(name) for name in expected if name not in state and name not in derived | counters]
    left_over = [*unknown, *(original(name) for name in state if name not in expected)]
    misshapen = []
    for name, tensor in state.items():
        wanted = expected.get(name, tensor.shape)
        if tensor.dim() == 3 and wanted == (*tensor.shape, 1):  # a 1-D convolution over tokens
            state[name] = tensor = tensor.unsqueeze(-1)
        if tensor.shape != wanted:
            misshapen.append(f'{original(name)} {tuple(tensor.shape)} instead of {tuple(wanted)}')
    faults = [
        f'{words} {first_few(names)}'
        for words, names in (('lacks', missing), ('has left over', left_over), ('has of another shape', misshapen))
        if names
    ]
    if faults:
        raise CheckpointError('; '.join(faults))
    _check_values(result, original)

    result.matched = len(state) + len(result.folded)
    for name in (name for name in expected if name in derived):
        weight = state[name.removesuffix(STEP) + '.weight']
        quantizer = LSQ(weight.shape[0], bits).to(weight.dtype)
        quantizer.reset_step(weight)
        state[name] = quantizer.step.detach()
        result.derived.append(name)
    for name in counters - set(state):
        state[name] = torch.tensor(0)
        result.missing.append(original(name))
    result.missing.sort()
    # In the network's own order, each tensor with storage of its own.
    result.state_dict = {name: state[name].clone(memory_format=torch.contiguous_format) for name in expected}


def _merge_linears(result: Conversion) -> list[str]:
    """Fold a box head's last shared linear layer into those for classes and boxes: ``W = W_2 W_1, b = W_2 b_1 + b_2``.

    Layers that do not fit are left alone, to be named.

    Returns:
        What is missing of such layers.
    """
    state, last, missing = result.state_dict, result.settings.get('box_linears', 0) - 1, []
    pattern = re.compile(rf'(roi_head\.bbox_head\.(?:\d+\.)?)shared_fcs\.{last}\.synapse\.(?:weight|bias)')
    for prefix in sorted({match.group(1) for match in map(pattern.fullmatch, state) if match}):
        first = f'{prefix}shared_fcs.{last}.synapse'
        outputs = [f'{prefix}{name}.synapse' for name in ('fc_cls', 'fc_reg')]
        missing += [f'{first}.{leaf}' for leaf in ('weight', 'bias') if f'{first}.{leaf}' not in state]
        layers = [(state.get(f'{name}.weight'), state.get(f'{name}.bias')) for name in (first, *outputs)]
        if any(
            weight is None or bias is None or weight.dim() != 2 or bias.shape != weight.shape[:1]
            for weight, bias in layers
        ) or any(weight.shape[1] != layers[0][0].shape[0] for weight, _ in layers[1:]):
            continue
        (inner, inner_bias), *rest = layers
        for name, (weight, bias) in zip(outputs, rest):
            state[f'{name}.weight'] = (weight.double() @ inner.double()).to(weight.dtype)
            state[f'{name}.bias'] = (weight.double() @ inner_bias.double() + bias.double()).to(bias.dtype)
        for leaf in ('weight', 'bias'):
            del state[f'{first}.{leaf}']
        result.folded += [f'{first}.{leaf}' for leaf in ('weight', 'bias')]
    return missing


def _merge_biases(result: Conversion, expected: Mapping[str, Any]) -> None:
    """Take biases before a norm, of layers that have none here, off the norm's mean."""
    state = result.state_dict
    for name in [name for name in state if name.endswith('.synapse.bias') and name not in expected]:
        mean = name.replace('.synapse.bias', '.norm.running_mean')
        if mean in expected and mean in state and state[mean].shape == state[name].shape:
            state[mean] = (state[mean].double() - state.pop(name).double()).to(state[mean].dtype)
            result.folded.append(name)


def _check_values(result: Conversion, original: Callable[[str], str]) -> None:
    tiny = 0
    for name, tensor in result.state_dict.items():
        if name.endswith(COUNTER):
            continue
        if not tensor.is_floating_point():
            raise CheckpointError(f'has {original(name)} in {tensor.dtype}: expected floating-point values')
        if name.endswith(STEP):
            bad = tensor[~(tensor.isfinite() & (tensor > 0))]
            if bad.numel():
                raise CheckpointError(
                    f'has {bad.numel()} of {tensor.numel()} LSQ steps in {original(name)} that are '
                    f'not positive and finite, such as {bad[0].item():g}: they cannot be represented'
                )
            tiny += int((tensor < MIN_STEP).sum())
        elif not tensor.isfinite().all():
            raise CheckpointError(f'has values in {original(name)} that are not finite')
    if tiny:
        result.notes.append(f'{tiny} LSQ steps are below {MIN_STEP:g} and act as {MIN_STEP:g}')
