"""Checkpoints of the published QSD and E-SpikeFormer networks, converted to this package's names.

What the tensors show (family, widths, depths, input channels, stem kernel, classes, whether weights have LSQ steps)
is read from them; what they cannot show (heads, strides, bits, D) takes the published value unless it is given.
"""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qsdt_mm.engine.checkpoint import load_checkpoint_safely
from qsdt_mm.engine.errors import CheckpointError, InputError
from qsdt_mm.engine.storage import atomic_open
from qsdt_mm.models.backbones import SpikeDrivenTransformer
from qsdt_mm.models.backbones.presets import ARCH_ZOO, FAMILIES, NUM_OUTPUTS, Arch, resolve_arch
from qsdt_mm.models.quantization import LSQ, WEIGHT_BITS, QuantLinear, check_weight_bits
from qsdt_mm.models.quantization.lsq import MIN_STEP
from qsdt_mm.validation import require, require_positive_int
from qsdt_mm.version import __version__

from .names import BLOCK_GROUPS, DOWNSAMPLES, NameTable, name_table

if TYPE_CHECKING:
    from mmpretrain.models import ImageClassifier

FORMAT = 'qsdt_mm classifier'
WEIGHTS = {'model': ('model', 'state_dict'), 'ema': ('model_ema', 'state_dict_ema')}
QSD_BITS = 4
STEP = '.quantizer.step'
COUNTER = '.num_batches_tracked'
# Where a published training script may have kept the bits of a weight among its arguments.
BITS_ARGUMENTS = ('weight_bits', 'w_bits', 'nbits_w', 'wbits')
VISIBLE = ('family', 'widths', 'depths', 'stem_kernel')


@dataclass
class Conversion:
    """A converted network and how it came about.

    Args:
        arch: shape of the network.
        in_channels, num_classes: of the image and the classifier.
        weight_bits: 2, 3, 4, 8 or 32.
        state_dict: tensors by this package's names, ``backbone.*`` and ``head.fc.*``.
        matched: tensors taken from the checkpoint.
        dropped: tensors left behind, by kind.
        missing: tensors the checkpoint lacks and that were filled in with their first value.
        derived: LSQ steps derived from the weights.
        notes: what else the user should know, in sentences.
    """

    arch: Arch
    in_channels: int
    num_classes: int
    weight_bits: int
    state_dict: dict[str, Tensor]
    matched: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def meta(self, source: str) -> dict[str, Any]:
        """What a reader needs to build the network again; plain types only."""
        return dict(
            format=FORMAT,
            version=__version__,
            source=source,
            family=self.arch.family,
            arch=arch_config(self.arch),
            in_channels=self.in_channels,
            num_classes=self.num_classes,
            weight_bits=self.weight_bits,
        )

    def report(self) -> dict[str, Any]:
        """The figures of the conversion; plain types only."""
        names = ('matched', 'dropped', 'missing', 'derived', 'notes')
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Recognised:
    """What the tensors of a published checkpoint show.

    Args:
        arch: shape of the network, 8 heads and strides 2 2 2 2 1 assumed.
        names: its names, published and ours.
        in_channels, num_classes: of the image and the classifier.
        has_steps: whether weights have LSQ steps.
    """

    arch: Arch
    names: NameTable
    in_channels: int
    num_classes: int
    has_steps: bool


def arch_config(arch: Arch) -> str | dict[str, Any]:
    """An ``arch`` argument for configs: the preset's name, or a dict of plain types."""
    for name, preset in ARCH_ZOO.items():
        if preset == arch:
            return name
    usual = Arch(arch.family, arch.widths)
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(arch).items()}
    return {
        key: value
        for key, value in settings.items()
        if key in ('family', 'widths', 'depths') or getattr(arch, key) != getattr(usual, key)
    }


def find_weights(checkpoint: Any, weights: str = 'model') -> tuple[dict[str, Any], list[str]]:
    """The dict of tensors in a checkpoint, names without wrappers' prefixes, and remarks on the choice.

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
    """The first few of many names, and how many there are."""
    listed = ', '.join(str(name) for name in list(names)[:most])
    return f'{listed}, ... ({len(names)} in all)' if len(names) > most else listed or 'nothing'


def refuse_unsupported(names: Sequence[str]) -> None:
    """Raise :class:`CheckpointError` for published networks that cannot be converted yet."""
    for kind, pattern in (
        ('a Spike-MAE pre-training checkpoint', r'(decoder_\w+|mask_token|pos_embed)(\..*)?$'),
        (
            'an E-SpikeFormer of the large sizes',
            r'head_kd\..*|block\d\.\d+\.rep_conv\..*|ConvBlock\d_\d\.\d+\.conv1\.0\.0\.weight$',
        ),
    ):
        telling = next((name for name in names if re.match(pattern, name)), None)
        if telling:
            raise CheckpointError(f'is {kind} (it has {telling}): converting these is not supported yet')


def recognise(tensors: Mapping[str, Any]) -> Recognised:
    """Family and shape of a published network, from names and shapes alone.

    Args:
        tensors: published names without prefixes, and tensors.

    Raises:
        CheckpointError: it is another network, or a tensor that shows the shape is absent.
    """
    refuse_unsupported(list(tensors))
    family = None
    for name in tensors:
        if name.endswith('.Conv.pwconv1.weight'):
            family = 'qsd'
        elif name.endswith('.Conv.pwconv1.0.weight'):
            family = 'espike'
    if family is None:
        ours = next((name for name in tensors if re.match(r'stages\.\d', name)), None)
        if ours:
            raise CheckpointError(
                f'was trained with this package ({ours}), not with a published implementation: build '
                'the model from its config and load the file there'
            )
        raise CheckpointError(
            'is not a published QSD or E-SpikeFormer classifier: it has no ConvBlock*.Conv.pwconv1; '
            f'its tensors are {first_few(tensors)}'
        )

    def shape(name: str, dims: int) -> torch.Size:
        if not isinstance(tensors.get(name), Tensor):
            raise CheckpointError(f'has no {name}, which shows the shape of the network')
        if tensors[name].dim() != dims:
            raise CheckpointError(f'has {name} of shape {tuple(tensors[name].shape)}: expected {dims} dimensions')
        return tensors[name].shape

    convs = [shape(f'{name}.encode_conv.weight', 4) for name in DOWNSAMPLES]
    counts = {}
    for group in BLOCK_GROUPS:
        found = (re.match(rf'{group}\.(\d{{1,4}})\.', name) for name in tensors)
        counts[group] = len({match.group(1) for match in found if match})
        if not counts[group]:
            raise CheckpointError(f'has no blocks under {group}')
    depths = [sum(counts[group] for group in BLOCK_GROUPS if BLOCK_GROUPS[group] == i) for i in range(NUM_OUTPUTS)]
    scaled = any(re.search(r'\.layer_scale\d$', name) for name in tensors)
    try:
        arch = Arch(
            family,
            tuple(conv[0] for conv in convs),
            tuple(depths),
            stem_kernel=convs[0][-1],
            layer_scale='default' if scaled else None,
        )
    except ValueError as error:
        raise CheckpointError(f'has tensors of impossible shapes: {error}') from error
    has_steps = any(name.endswith('.alpha') and '.act.' not in name for name in tensors)
    return Recognised(arch, name_table(family, counts), convs[0][1], shape('head.weight', 2)[0], has_steps)


def settle_arch(found: Arch, wanted: str | dict[str, Any] | None = None, num_heads: int | None = None) -> Arch:
    """The shape of the network: what the tensors show, and what was asked for where they show nothing.

    Args:
        found: the recognised shape.
        wanted: preset or dict to check against; its heads and strides are taken. A dict with neither ``preset`` nor
            ``family`` changes ``found``.
        num_heads: attention heads, over all else.

    Raises:
        CheckpointError: ``wanted`` differs from what the tensors show.
        ValueError: ``wanted`` is not an architecture.
    """
    arch = found
    if wanted is not None:
        partial = isinstance(wanted, dict) and not {'preset', 'family'} & set(wanted)
        arch = resolve_arch({**asdict(found), **wanted} if partial else wanted)
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


def expected_tensors(arch: Arch, in_channels: int, num_classes: int, weight_bits: int) -> dict[str, torch.Size]:
    """Names and shapes of the tensors of a converted checkpoint.

    Raises:
        InputError: there is no such network.
    """
    try:
        backbone = SpikeDrivenTransformer(arch, in_channels, weight_bits=weight_bits)
    except ValueError as error:
        raise InputError(str(error)) from error
    synapse = QuantLinear(arch.widths[-1], num_classes, weight_bits=weight_bits)
    return {
        f'{prefix}.{name}': tensor.shape
        for prefix, module in (('backbone', backbone), ('head.fc.synapse', synapse))
        for name, tensor in module.state_dict().items()
    }


def is_dead(name: str, names: NameTable) -> str | None:
    """The kind of a QSD tensor that no forward pass reads; None for one that is read."""
    match = re.fullmatch(r'(.+?)\.(act\.\w+|init_state)', name)
    if match is None or match.group(1) not in names.modules:
        return None
    return match.group(2) if match.group(2) == 'init_state' else 'act.*'


def argument_bits(checkpoint: Any) -> int | None:
    """Bits of a weight as the training script's arguments say, if they do."""
    arguments = checkpoint.get('args') if isinstance(checkpoint, Mapping) else None
    arguments = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    if not isinstance(arguments, Mapping):
        return None
    said = (arguments.get(name) for name in BITS_ARGUMENTS)
    return next((bits for bits in said if isinstance(bits, int) and bits in WEIGHT_BITS), None)


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
    found = recognise(tensors)
    shape = settle_arch(found.arch, arch, num_heads)
    said = argument_bits(checkpoint)
    bits = weight_bits
    if bits is None:
        bits = (said or QSD_BITS) if found.has_steps else 32
        if found.has_steps and said is None:
            notes.append(f'weight_bits={bits} is assumed: tensors do not show it')
    elif found.has_steps and said not in (None, bits):
        notes.append(f'weight_bits={bits} as asked, though the arguments in the checkpoint say {said}')
    result = Conversion(shape, found.in_channels, found.num_classes, bits, {}, notes=notes)

    dropped: Counter[str] = Counter()
    unset, unknown = set(), []
    for name, tensor in tensors.items():
        ours, kind = found.names.ours(name), is_dead(name, found.names) if shape.family == 'qsd' else None
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
    if not isinstance(meta, Mapping) or meta.get('format') != FORMAT:
        return None
    state, bits = checkpoint.get('state_dict'), weight_bits if weight_bits is not None else meta.get('weight_bits')
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CheckpointError('has no dict of tensors under state_dict')
    check_weight_bits(bits)
    for name in ('in_channels', 'num_classes'):
        require_positive_int(f'meta.{name}', meta.get(name))
    shape = settle_arch(resolve_arch(meta.get('arch')), arch)
    result = Conversion(shape, meta['in_channels'], meta['num_classes'], bits, dict(state))
    _fit(result, lambda name: name)
    return result


@contextmanager
def _naming(path: str | os.PathLike) -> Iterator[None]:
    """Errors about the content of a file name the file."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f'checkpoint {path} {error}') from error


def _load(path: str | os.PathLike) -> Any:
    return load_checkpoint_safely(path, extra_allowed=[argparse.Namespace])


def convert_file(
    source: str | os.PathLike, destination: str | os.PathLike, *, overwrite: bool = False, **options: Any
) -> Conversion:
    """Convert a published checkpoint to a file for mmpretrain; the file is either whole or not there.

    The file holds ``meta`` and ``state_dict`` of an ``ImageClassifier`` with ``SpikeDrivenTransformer``,
    ``GlobalAveragePooling`` and ``SpikeLinearClsHead``, in types that ``torch.load(weights_only=True)`` accepts.

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
    checkpoint = _load(source)
    with _naming(source):
        if read_converted(checkpoint) is not None:
            raise CheckpointError('has been converted already')
        result = convert(checkpoint, **options)
    with atomic_open(destination) as file:
        torch.save(dict(meta=result.meta(source.name), state_dict=result.state_dict), file)
    return result


def load_published(
    path: str | os.PathLike,
    out_indices: Sequence[int] = (NUM_OUTPUTS - 1,),
    *,
    weights: str = 'model',
    **backbone_overrides: Any,
) -> ImageClassifier:
    """A classifier with the weights of a published checkpoint, in evaluation mode; needs mmpretrain.

    ``model(images)`` gives logits of normalised images, ``model.backbone(images)`` the features.

    Args:
        path: a published checkpoint, or one that ``published_to_mm.py`` wrote.
        out_indices: stages that the backbone puts out, 0 to 4; the last must be 4, which the classifier reads.
        weights: 'model', or 'ema' for the averaged weights.
        backbone_overrides: arguments of ``SpikeDrivenTransformer``, over the published ones, such as ``levels=8``,
            ``weight_bits=8`` or ``arch=dict(num_heads=4)``; ``arch`` must fit the tensors. The classifier's neuron is
            the family's, with the same ``levels``. With ``time_steps`` above 1 the classifier fires in each step, so
            that features keep time in the batch, ``(T * N, ...)``, unless ``time_mean=True``.

    Raises:
        CheckpointError: the file cannot be loaded, or is not such a checkpoint.
        ValueError: an argument is out of range.
    """
    out_indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    require(
        len(out_indices) > 0 and out_indices[-1] == NUM_OUTPUTS - 1,
        'out_indices',
        out_indices,
        f'stages that end with {NUM_OUTPUTS - 1}, the one that the classifier reads',
    )
    overrides = dict(backbone_overrides)
    arch, weight_bits = overrides.pop('arch', None), overrides.pop('weight_bits', None)
    checkpoint = _load(path)
    with _naming(path):
        network = read_converted(checkpoint, arch=arch, weight_bits=weight_bits)
        if network is None:
            network = convert(checkpoint, arch=arch, weight_bits=weight_bits, weights=weights)
    require(
        overrides.pop('in_channels', network.in_channels) == network.in_channels,
        'in_channels',
        backbone_overrides.get('in_channels'),
        f'{network.in_channels}, as in the checkpoint',
    )
    return _classifier(network, out_indices, overrides)


def _classifier(network: Conversion, out_indices: Sequence[int], overrides: dict[str, Any]) -> ImageClassifier:
    from mmpretrain.models import ClsDataPreprocessor, CrossEntropyLoss, GlobalAveragePooling, ImageClassifier

    from qsdt_mm.models.heads.classification import SpikeLinearClsHead

    levels, time_steps = overrides.get('levels', 4), overrides.get('time_steps', 1)
    time_mean = overrides.setdefault('time_mean', time_steps == 1)
    backbone = SpikeDrivenTransformer(
        network.arch, network.in_channels, weight_bits=network.weight_bits, out_indices=out_indices, **overrides
    )
    head = SpikeLinearClsHead(
        network.num_classes,
        network.arch.widths[-1],
        neuron=FAMILIES[network.arch.family].head_neuron,
        weight_bits=network.weight_bits,
        levels=levels,
        time_steps=1 if time_mean else time_steps,
        loss=CrossEntropyLoss(),
    )
    # Statistics of ImageNet, which the published networks were trained on.
    normalise = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
    preprocessor = ClsDataPreprocessor(num_classes=network.num_classes, **normalise if network.in_channels == 3 else {})
    model = ImageClassifier(backbone, GlobalAveragePooling(), head, data_preprocessor=preprocessor)
    model.load_state_dict(network.state_dict)
    model.is_init = True  # a runner must not initialise over the weights
    return model.eval()
