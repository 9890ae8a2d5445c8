"""Files of published and of converted networks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qsdt_mm.errors import CheckpointError, InputError, require_positive_int
from qsdt_mm.fileio.atomic import atomic_open
from qsdt_mm.fileio.checkpoint import load_checkpoint_safely, model_weights
from qsdt_mm.models.backbones.presets import resolve_arch
from qsdt_mm.models.neurons.functional import check_rounding
from qsdt_mm.models.quantization import check_weight_bits

from .configs import config_text
from .conversion import FORMAT, Conversion, convert, dataset_meta, fit
from .networks import OPTIONS, SIZES, settle_options
from .recognition import complete_arch
from .reverse import Publication, publish


def read_converted(
    checkpoint: Any, *, arch: str | dict[str, Any] | None = None, weight_bits: int | None = None, **options: Any
) -> Conversion | None:
    """Return a checkpoint that this package converted before; None for any other.

    Args:
        checkpoint: what the file holds.
        arch, weight_bits, options: as for :func:`convert`; None takes what the file says.

    Raises:
        CheckpointError: the tensors are not those of the network that the file describes.
        InputError: the network is one of a library that is not installed.
        ValueError: an argument is out of range.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    format_, _, kind = str(meta.get('format') if isinstance(meta, Mapping) else None).partition(' ')
    if format_ != FORMAT or kind not in OPTIONS:
        return None
    state, bits = checkpoint.get('state_dict'), weight_bits if weight_bits is not None else meta.get('weight_bits')
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CheckpointError('has no dict of tensors under state_dict')
    check_weight_bits(bits)
    for name in ('in_channels', 'num_classes')[: 1 if kind == 'encoder' else 2]:
        require_positive_int(f'meta.{name}', meta.get(name))
    shape = complete_arch(resolve_arch(meta.get('arch')), arch, pretraining=kind == 'encoder')
    settings = meta.get('settings', {})  # early files have none
    if not isinstance(settings, Mapping):
        raise CheckpointError('has no dict under meta.settings')
    said = {name: settings.get(name) for name in OPTIONS[kind]}
    settled = settle_options(kind, shape, {**said, **{k: v for k, v in options.items() if v is not None}})
    sizes = {name: settings.get(name) for name in SIZES.get(kind, ())}
    wrong = [name for name, size in sizes.items() if type(size) not in (int, bool) or size < 0]
    if wrong:
        raise CheckpointError(f'has no usable meta.settings.{wrong[0]}')
    num_classes = None if kind == 'encoder' else meta['num_classes']
    rounding = meta.get('rounding')
    if rounding is not None:
        check_rounding(rounding)
    result = Conversion(kind, shape, meta['in_channels'], num_classes, bits, {**sizes, **settled}, dict(state))
    result.rounding, result.dataset_meta = rounding, dataset_meta(checkpoint, num_classes, result.notes)
    fit(result, lambda name: name)
    return result


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Have errors about the content of a file name the file."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f'checkpoint {path} {error}') from error


def load_file(path: str | os.PathLike) -> Any:
    """Return the contents of a published or converted checkpoint; nothing in it is run."""
    return load_checkpoint_safely(path, extra_allowed=[argparse.Namespace])


def convert_file(
    source: str | os.PathLike, destination: str | os.PathLike, *, overwrite: bool = False, **options: Any
) -> Conversion:
    """Convert a published checkpoint to one for mmpretrain, mmdet or mmseg, and write a config that evaluates it.

    The checkpoint holds ``meta`` and ``state_dict`` in types that ``torch.load(weights_only=True)`` accepts; the config
    is ``destination`` with ``.py`` after it. That of a Spike-MAE encoder, which has no config, starts fine-tuning with
    ``init_cfg=dict(type='Pretrained', checkpoint=destination, prefix='backbone.')`` of the backbone. Files are either
    whole or not there.

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
    config = config_path(destination)
    _check_destinations(source, [destination, config], overwrite)
    checkpoint = load_file(source)
    with naming(source):
        if read_converted(checkpoint) is not None:
            raise CheckpointError('has been converted already')
        result = convert(checkpoint, **options)
    text = None if result.kind == 'encoder' else config_text(result, source.name, result.dataset_meta)
    with atomic_open(destination) as file, nullcontext() if text is None else atomic_open(config, 'wb') as beside:
        torch.save(dict(meta=result.meta(source.name), state_dict=result.weights()), file)
        if text is not None:
            beside.write(text.encode())
    return result


def publish_file(source: str | os.PathLike, destination: str | os.PathLike, *, overwrite: bool = False) -> Publication:
    """Write a classifier of this package as a checkpoint that the papers' code loads; the file is whole or not there.

    Args:
        source: a checkpoint trained here, or one that :func:`convert_file` wrote.
        destination: the file to write: ``dict(model=...)``.
        overwrite: replace ``destination`` if it exists.

    Raises:
        CheckpointError: ``source`` cannot be loaded, or is no network that the papers' code has.
        InputError: ``destination`` exists, or is ``source``.
        OSError: ``destination`` cannot be written.
    """
    source, destination = Path(source), Path(destination)
    _check_destinations(source, [destination], overwrite)
    checkpoint = load_file(source)
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    with naming(source):
        result = publish(model_weights(checkpoint), meta if isinstance(meta, Mapping) else None)
    with atomic_open(destination) as file:
        torch.save(dict(model=result.state_dict), file)
    return result


def _check_destinations(source: Path, destinations: Sequence[Path], overwrite: bool) -> None:
    """Refuse to write over what is to be kept."""
    for path in destinations:
        if path.is_dir():
            raise InputError(f'{path} is a directory')
        if path.exists() and source.exists() and path.samefile(source):
            raise InputError(f'{path} is the checkpoint itself')
        if path.exists() and not overwrite:
            raise InputError(f'{path} exists already (overwrite it with --overwrite)')


def config_path(checkpoint: str | os.PathLike) -> Path:
    """Return the path of the config of a converted checkpoint."""
    return Path(f'{os.fspath(checkpoint)}.py')
