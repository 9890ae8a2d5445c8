"""Checkpoints of the published QSD, E-SpikeFormer and Spike-MAE networks, converted to this package's names.

What the tensors show (family, widths, depths, input channels, stem kernel, classes, whether weights have LSQ steps)
is read from them; what they cannot show (heads, strides, bits, D) takes the published value unless it is given.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qsdt_mm.errors import CheckpointError, InputError, require_positive_int
from qsdt_mm.fileio.atomic import atomic_open
from qsdt_mm.fileio.checkpoint import load_checkpoint_safely
from qsdt_mm.models.backbones import SpikeDrivenTransformer
from qsdt_mm.models.backbones.presets import FAMILIES, Arch, resolve_arch
from qsdt_mm.models.neurons import IELIF
from qsdt_mm.models.neurons.functional import check_rounding
from qsdt_mm.models.quantization import LSQ, QuantLinear, check_weight_bits
from qsdt_mm.models.quantization.lsq import MIN_STEP
from qsdt_mm.version import __version__

from .names import CLASSIFIER, ENCODER, TWO_HEADS
from .recognition import arch_config, argument_bits, complete_arch, dead_kind, find_weights, first_few, infer_network

CLASSIFIER_FORMAT, ENCODER_FORMAT = 'qsdt_mm classifier', 'qsdt_mm encoder'
QSD_BITS = 4
STEP = '.quantizer.step'
COUNTER = '.num_batches_tracked'


@dataclass
class Conversion:
    """A converted network and how it came about.

    Args:
        arch: shape of the network.
        in_channels, num_classes: of the image and the classifier; None for the encoder of Spike-MAE, which has none.
        weight_bits: 2, 3, 4, 8 or 32.
        state_dict: tensors by this package's names, ``backbone.*`` and ``head.*``; of an encoder ``backbone.*`` and
            ``norm.*``, the norm that closes it in pre-training.
        matched: tensors taken from the checkpoint.
        dropped: tensors left behind, by kind.
        missing: tensors the checkpoint lacks and that were filled in with their first value.
        derived: LSQ steps derived from the weights.
        notes: what else the user should know, in sentences.
        rounding: what the neurons do on a half, which tensors do not show: as the published networks of the family.
            None: a file that was converted before this was recorded.
    """

    arch: Arch
    in_channels: int
    num_classes: int | None
    weight_bits: int
    state_dict: dict[str, Tensor]
    matched: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rounding: str | None = None

    def meta(self, source: str) -> dict[str, Any]:
        """What a reader needs to build the network again; plain types only."""
        return dict(
            format=CLASSIFIER_FORMAT if self.num_classes else ENCODER_FORMAT,
            version=__version__,
            source=source,
            family=self.arch.family,
            arch=arch_config(self.arch),
            in_channels=self.in_channels,
            num_classes=self.num_classes,
            weight_bits=self.weight_bits,
            rounding=self.rounding,
        )

    def weights(self, file: str | os.PathLike | None = None) -> OrderedDict[str, Tensor]:
        """The tensors with torch's notes on modules, which say what neurons do on a half."""
        weights, version = OrderedDict(self.state_dict), dict(version=1)
        if self.rounding is not None:
            version = dict(version=IELIF._version, rounding=self.rounding)
        parts = network_parts(self.arch, self.in_channels, self.num_classes, self.weight_bits)
        modules = {f'{prefix}.{name}': module for prefix, part in parts for name, module in part.named_modules()}
        weights._metadata = {
            name.rstrip('.'): dict(version) if isinstance(module, IELIF) else dict(version=module._version)
            for name, module in modules.items()
        }
        for unit in (prefix.removesuffix('.synapse') for prefix, _ in parts if prefix.endswith('.synapse')):
            weights._metadata[f'{unit}.neuron'] = dict(version)
        if file is not None:
            for notes in weights._metadata.values():
                notes['file'] = str(file)
        return weights

    def report(self) -> dict[str, Any]:
        """The figures of the conversion; plain types only."""
        names = ('matched', 'dropped', 'missing', 'derived', 'notes')
        return {name: getattr(self, name) for name in names}


def network_parts(
    arch: Arch, in_channels: int, num_classes: int | None, weight_bits: int
) -> list[tuple[str, nn.Module]]:
    """The modules that a converted checkpoint has tensors of, by name, without values.

    Raises:
        InputError: there is no such network.
    """
    with torch.device('meta'):
        try:
            backbone = SpikeDrivenTransformer(arch, in_channels, weight_bits=weight_bits)
        except ValueError as error:
            raise InputError(str(error)) from error
        if num_classes is None:
            after, last = ENCODER, nn.BatchNorm2d(arch.widths[-1])
        else:
            after = TWO_HEADS if FAMILIES[arch.family].two_heads else CLASSIFIER
            last = QuantLinear(arch.widths[-1], num_classes, weight_bits=weight_bits)
    return [('backbone', backbone), *((ours, last) for ours in after.values())]


def expected_tensors(arch: Arch, in_channels: int, num_classes: int | None, weight_bits: int) -> dict[str, torch.Size]:
    """Names and shapes of the tensors of a converted checkpoint; without classes, of an encoder.

    Raises:
        InputError: there is no such network.
    """
    return {
        f'{prefix}.{name}': tensor.shape
        for prefix, module in network_parts(arch, in_channels, num_classes, weight_bits)
        for name, tensor in module.state_dict().items()
    }


def convert(
    checkpoint: Any,
    *,
    arch: str | dict[str, Any] | None = None,
    num_heads: int | None = None,
    weight_bits: int | None = None,
    weights: str = 'model',
) -> Conversion:
    """Convert a published checkpoint, as loaded from its file.

    Args:
        checkpoint: a dict of tensors, or one that has such a dict under ``model``, ``state_dict`` or ``model_ema``.
        arch: preset or dict that the tensors must fit; None takes what they show.
        num_heads: attention heads; None: 8, or those of ``arch``.
        weight_bits: 2, 3, 4, 8 or 32 (no LSQ). None: 32 without LSQ steps, else what the arguments in the checkpoint
            say, else 4.
        weights: 'model', or 'ema' for the averaged weights.

    Raises:
        CheckpointError: the checkpoint is of another network, lacks tensors, has tensors that nothing explains, or
            values that cannot be represented; one line that names the first few.
        ValueError: an argument is out of range.
    """
    if weight_bits is not None:
        check_weight_bits(weight_bits)
    tensors, notes = find_weights(checkpoint, weights)
    found = infer_network(tensors)
    shape = complete_arch(found.arch, arch, num_heads, pretraining=found.num_classes is None)
    said = argument_bits(checkpoint)
    bits = weight_bits
    if bits is None:
        bits = (said or QSD_BITS) if found.has_steps else 32
        if found.has_steps and said is None:
            notes.append(f'weight_bits={bits} is assumed: tensors do not show it')
    elif found.has_steps and said not in (None, bits):
        notes.append(f'weight_bits={bits} as asked, though the arguments in the checkpoint say {said}')
    rounding = FAMILIES[shape.family].rounding
    result = Conversion(shape, found.in_channels, found.num_classes, bits, {}, notes=notes, rounding=rounding)

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
    _fit(result, found.names.published, unset, unknown)
    return result


def _fit(
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
    expected = expected_tensors(result.arch, result.in_channels, result.num_classes, bits)
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

    missing = [original(name) for name in expected if name not in state and name not in derived | counters]
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

    result.matched = len(state)
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


def read_converted(
    checkpoint: Any, *, arch: str | dict[str, Any] | None = None, weight_bits: int | None = None
) -> Conversion | None:
    """A checkpoint that this package converted before; None for any other.

    Args:
        checkpoint: what the file holds.
        arch, weight_bits: as for :func:`convert`; None takes what the file says.

    Raises:
        CheckpointError: the tensors are not those of the network that the file describes.
        ValueError: an argument is out of range.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    if not isinstance(meta, Mapping) or meta.get('format') not in (CLASSIFIER_FORMAT, ENCODER_FORMAT):
        return None
    pretraining = meta['format'] == ENCODER_FORMAT
    state, bits = checkpoint.get('state_dict'), weight_bits if weight_bits is not None else meta.get('weight_bits')
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CheckpointError('has no dict of tensors under state_dict')
    check_weight_bits(bits)
    for name in ('in_channels', 'num_classes')[: 1 if pretraining else 2]:
        require_positive_int(f'meta.{name}', meta.get(name))
    shape = complete_arch(resolve_arch(meta.get('arch')), arch, pretraining=pretraining)
    num_classes = None if pretraining else meta['num_classes']
    rounding = meta.get('rounding')
    if rounding is not None:
        check_rounding(rounding)
    result = Conversion(shape, meta['in_channels'], num_classes, bits, dict(state), rounding=rounding)
    _fit(result, lambda name: name)
    return result


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Errors about the content of a file name the file."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f'checkpoint {path} {error}') from error


def load_file(path: str | os.PathLike) -> Any:
    """What a published or converted checkpoint holds; nothing in it is run."""
    return load_checkpoint_safely(path, extra_allowed=[argparse.Namespace])


def convert_file(
    source: str | os.PathLike, destination: str | os.PathLike, *, overwrite: bool = False, **options: Any
) -> Conversion:
    """Convert a published checkpoint to a file for mmpretrain; the file is either whole or not there.

    The file holds ``meta`` and ``state_dict`` of an ``ImageClassifier`` with ``SpikeDrivenTransformer``,
    ``GlobalAveragePooling`` and ``SpikeLinearClsHead`` (``SpikeTwoHeadClsHead``), in types that
    ``torch.load(weights_only=True)`` accepts. That of a Spike-MAE encoder starts fine-tuning with ``init_cfg=dict(
    type='Pretrained', checkpoint=destination, prefix='backbone.')`` of the backbone.

    Args:
        source: a published checkpoint.
        destination: the file to write.
        overwrite: replace ``destination`` if it exists.
        options: those of :func:`convert`.

    Raises:
        CheckpointError: ``source`` cannot be loaded or converted.
        InputError: ``destination`` exists, or is ``source``.
        OSError: ``destination`` cannot be written.
    """
    source, destination = Path(source), Path(destination)
    if destination.is_dir():
        raise InputError(f'{destination} is a directory')
    if destination.exists() and source.exists() and destination.samefile(source):
        raise InputError(f'{destination} is the published checkpoint itself')
    if destination.exists() and not overwrite:
        raise InputError(f'{destination} exists already (overwrite it with --overwrite)')
    checkpoint = load_file(source)
    with naming(source):
        if read_converted(checkpoint) is not None:
            raise CheckpointError('has been converted already')
        result = convert(checkpoint, **options)
    with atomic_open(destination) as file:
        torch.save(dict(meta=result.meta(source.name), state_dict=result.weights()), file)
    return result
