"""Reading checkpoints without running what is in them, and finding one to go on from."""

import contextlib
import os
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, load_from_local
from torch import nn

from qsdt_mm.compat.sharded import whole_parameters
from qsdt_mm.errors import CheckpointError, refusal

from .atomic import PathLike
from .folders import packed_checkpoint
from .near import did_you_mean, folder_holds
from .own_files import LAST, inside
from .safe_load import every_load_as_data, load_as_data, numpy_rebuilders
from .shipped import located

TRAINING_PARTS = ('meta', 'state_dict', 'message_hub')
OPTIONAL = ('optimizer', 'param_schedulers')  # training can go on with new ones, if it is told to


def _history_statistic(owner: Any, name: str) -> Any:
    """Stand for ``getattr`` in a checkpoint: find the public methods of a history buffer, no more."""
    if owner is not HistoryBuffer or not isinstance(name, str) or name.startswith('_'):
        raise pickle.UnpicklingError('GLOBAL builtins.getattr was not an allowed global')
    return vars(HistoryBuffer)[name]


def allowed_types() -> list[Any]:
    """List the types in mmengine's checkpoints besides tensors and plain containers; no code is run.

    A pair gives the name under which files know the object.
    """
    dtypes = {type(np.dtype(name)) for name in ('bool', 'int32', 'int64', 'uint8', 'float32', 'float64')}
    return [
        HistoryBuffer,
        ConfigDict,
        np.ndarray,
        np.dtype,
        *dtypes,
        *numpy_rebuilders(),
        (_history_statistic, 'builtins.getattr'),
    ]


def load_checkpoint_safely(path: PathLike, map_location: Any = 'cpu', extra_allowed: Sequence[Any] = ()) -> Any:
    """Load a checkpoint as data: nothing in it is called but the constructors of a short list of plain types.

    Args:
        path: A local file, a packed folder of kind 'trainable', or the name of a network that comes with the package.
        map_location: As in :func:`torch.load`.
        extra_allowed: Further classes that the file may hold.

    Returns:
        What the file holds.

    Raises:
        CheckpointError: The file is missing, cannot be read, is truncated or damaged (the checksums of its records
            are compared, which torch does not do), or asks for anything that is not on the list; one line.
    """
    if (folder := located(path)) is not None:
        return packed_checkpoint(folder, map_location)
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f'checkpoint {path} does not exist{did_you_mean(path)}')
    if path.is_dir():
        raise CheckpointError(f'checkpoint {path} is a folder, not a file{folder_holds(path)}')
    if not path.is_file():
        raise CheckpointError(f'checkpoint {path} is not a file')
    allowed = [*allowed_types(), *extra_allowed]
    try:
        _compare_checksums(path)
        return load_as_data(path, map_location, allowed)
    except PermissionError as error:
        raise CheckpointError(f'checkpoint {path} cannot be read: permission denied') from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        said = refusal(error)
        if said:
            raise CheckpointError(f'checkpoint {path} {said}') from error
        raise CheckpointError(
            f'checkpoint {path} is truncated or damaged ({type(error).__name__}: {_first_line(error)})'
        ) from error


def _compare_checksums(path: PathLike) -> None:
    """Read a checkpoint's records once and compare their checksums, where it has any.

    Raises:
        zipfile.BadZipFile: A record is not what was written.
    """
    if not zipfile.is_zipfile(path):  # an older format, without checksums, or no checkpoint at all
        return
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            if record.CRC == 0:  # written under torch.serialization.set_crc32_options(False), or empty
                continue
            with archive.open(record) as file:
                while file.read(1 << 20):
                    pass


def check_pretrained(module: nn.Module) -> dict[str, OrderedDict[str, None]]:
    """Load the local files that ``init_cfg=dict(type='Pretrained')`` of a module and its parts names, as data only.

    mmengine loads such a file in whatever way it can, which may run what is in it; a file that passes here does not.

    Returns:
        By file, the names of its weights and what modules noted, see :func:`saved_notes`.

    Raises:
        CheckpointError: As :func:`load_checkpoint_safely`.
    """
    files = set()
    for part in module.modules():
        found = getattr(part, 'init_cfg', None)
        for init in found if isinstance(found, (list, tuple)) else [found]:
            if isinstance(init, dict) and init.get('type') in ('Pretrained', 'PretrainedInit'):
                files.add(str(init.get('checkpoint')))
    found = {}
    for name in sorted(files):
        if not re.match(r'\w+://', name):
            checkpoint = load_checkpoint_safely(os.path.expanduser(name))
            with contextlib.suppress(CheckpointError):  # without weights: mmengine says so
                weights = model_weights(checkpoint, name)
                found[name] = OrderedDict.fromkeys(weights)
                found[name]._metadata = saved_notes(weights)
    return found


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else ''


class IncompleteCheckpoint(UserWarning):
    """A checkpoint was passed over because training cannot go on from what it holds.

    >>> IncompleteCheckpoint('best.pth lacks its optimizer').args
    ('best.pth lacks its optimizer',)
    """


class IncompleteCheckpointError(CheckpointError):
    """A checkpoint is whole but training cannot go on from what it holds.

    >>> missing_parts(dict(state_dict={}, meta=dict(epoch=1, iter=9), message_hub={}))
    ['optimizer', 'param_schedulers']
    >>> issubclass(IncompleteCheckpointError, CheckpointError)
    True
    """


def missing_parts(checkpoint: Any, optimizer: bool = True, schedule: bool = True) -> list[str]:
    """List what a checkpoint lacks of what training goes on from.

    Args:
        checkpoint: What the file holds.
        optimizer: Whether its optimizer is wanted.
        schedule: Whether its schedules (``param_schedulers``) are wanted.
    """
    held = checkpoint if isinstance(checkpoint, dict) else {}
    missing = [part for part in TRAINING_PARTS if part not in held]
    if not missing:
        missing = [f'meta.{key}' for key in ('epoch', 'iter') if key not in held['meta']]
    if optimizer and not held.get('optimizer'):
        missing.append('optimizer')
    if schedule and held.get('param_schedulers') is None:
        missing.append('param_schedulers')
    return missing


def check_training_parts(checkpoint: Any, path: PathLike, optimizer: bool = True, schedule: bool = True) -> None:
    """Refuse a checkpoint that lacks something that training goes on from; arguments as :func:`missing_parts`.

    Raises:
        IncompleteCheckpointError: It does; the line says what else can be done with the file.
    """
    missing = missing_parts(checkpoint, optimizer, schedule)
    if not missing:
        return
    ways = f'to start from its weights: --cfg-options load_from={path}'
    options = [f'--new-{"schedule" if part == "param_schedulers" else part}' for part in missing if part in OPTIONAL]
    if len(options) == len(missing):
        ways += f'; to go on with a new one of each: {" ".join(options)}'
    raise IncompleteCheckpointError(f'checkpoint {path} cannot be resumed: it has no {", ".join(missing)} ({ways})')


def load_training_state(path: PathLike, optimizer: bool = True, schedule: bool = False) -> dict[str, Any]:
    """Load a checkpoint that training is to go on from.

    Args:
        path: A local file written by the checkpoint hook.
        optimizer: Whether its optimizer is wanted.
        schedule: Whether its schedules are wanted.

    Returns:
        The checkpoint, without the configuration text that mmengine would execute.

    Raises:
        CheckpointError: As :func:`load_checkpoint_safely`, or it lacks a part that is wanted, as the best checkpoint of
            a run does, or a file of weights.
    """
    checkpoint = load_checkpoint_safely(path)
    check_training_parts(checkpoint, path, optimizer, schedule)
    return drop_code(checkpoint)


def drop_code(checkpoint: Any) -> Any:
    """Remove the configuration text that mmengine's ``Runner.resume`` would execute, in place."""
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'].pop('config', None)
    return checkpoint


def list_checkpoints(*directories: PathLike) -> list[Path]:
    """Return the files ``epoch_*.pth`` and ``iter_*.pth`` of a run's directories, newest first."""
    found = []
    for path in (path for directory in directories for path in Path(directory).glob('*.pth')):
        match = re.fullmatch(r'(epoch|iter)_(\d+)', path.stem)
        if match and path.is_file():
            found.append((match.group(1), int(match.group(2)), path))
    if len({kind for kind, _, _ in found}) > 1:  # numbers of two kinds do not compare
        found.sort(key=lambda item: item[2].stat().st_mtime_ns, reverse=True)
    else:
        found.sort(key=lambda item: item[1], reverse=True)
    return [path for _, _, path in found]


def _named_last(*directories: PathLike) -> tuple[str, Path | None]:
    """Read ``last_checkpoint`` of the first directory; return also the file of a run's directories that it means."""
    try:
        named = (Path(directories[0]) / LAST).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return '', None
    if not named:
        return '', None
    # An absolute path; the directory may have been moved since, or copied.
    places = [Path(named)] if inside(named, directories) else []
    places += [Path(directory) / Path(named).name for directory in directories]
    return named, next((path for path in places if path.is_file()), None)


def checkpoints_of(*directories: PathLike) -> list[Path]:
    """List checkpoints in these directories that a new run would mix up with its own, newest first."""
    best = [path for directory in directories for path in sorted(Path(directory).glob('best_*.pth')) if path.is_file()]
    _, last = _named_last(*directories)
    found = [*list_checkpoints(*directories), *best]
    return found if last is None or any(path.samefile(last) for path in found) else [*found, last]


def find_resumable(*directories: PathLike) -> Path | None:
    """Find the newest whole checkpoint of a run; see :func:`newest_training_state`."""
    found = newest_training_state(*directories)
    return found and found[0]


def newest_training_state(
    *directories: PathLike, optimizer: bool = True, schedule: bool = False
) -> tuple[Path, dict[str, Any]] | None:
    """Find the newest whole checkpoint of a run, and read it.

    The one that ``last_checkpoint`` names is tried first, then the others, newest first. One that cannot be
    loaded, that lacks a part that is wanted, or that ``last_checkpoint`` names and that lies elsewhere, is skipped with
    a warning that names it (an :class:`IncompleteCheckpoint` where a part is lacking). The best ones are never taken.

    Args:
        directories: The work directory, which need not exist, and others in which the run saves.
        optimizer, schedule: As for :func:`load_training_state`.

    Returns:
        Its path and what it holds (:func:`load_training_state`), or ``None``.
    """
    named, last = _named_last(*directories)
    if named and last is None and Path(named).is_file():
        warnings.warn(f'skipped: checkpoint {named} is not in {directories[0]}, which names it', stacklevel=2)
    candidates = [] if last is None or last.name.startswith('best_') else [last]
    candidates += [path for path in list_checkpoints(*directories) if path not in candidates]
    for path in candidates:
        try:
            return path, load_training_state(path, optimizer, schedule)
        except CheckpointError as error:
            kind = IncompleteCheckpoint if isinstance(error, IncompleteCheckpointError) else UserWarning
            warnings.warn(f'skipped: {error}', kind, stacklevel=2)
    return None


class Mismatch(NamedTuple):
    """Differences between a checkpoint's weights and a model's.

    >>> print(load_weights(nn.Linear(2, 1), dict(weight=torch.ones(1, 2), scale=torch.ones(1))))
    1 missing from it (bias); 1 unknown to the model (scale)
    """

    missing: list[str]
    unexpected: list[str]
    shape: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shape)

    def __str__(self) -> str:
        parts = []
        for words, names in (
            ('missing from it', self.missing),
            ('unknown to the model', self.unexpected),
            ('of another shape', self.shape),
        ):
            if names:
                parts.append(f'{len(names)} {words} ({", ".join(names[:3])}{", ..." if len(names) > 3 else ""})')
        return '; '.join(parts) or 'none'


def saved_notes(state: Any, path: PathLike | None = None) -> dict[str, dict[str, Any]]:
    """Return the notes of modules when saved (torch's ``_metadata``), by name, and the file they are from.

    Weights that were put into another dict, or saved by other programs, have lost their notes: there is but the model's
    own, under the empty name.
    """
    notes = getattr(state, '_metadata', None)
    notes = {
        re.sub(r'^module(\.|$)', '', name): dict(entry)
        for name, entry in (notes.items() if isinstance(notes, Mapping) else ())
        if isinstance(name, str) and isinstance(entry, Mapping)
    }
    notes.setdefault('', {})
    if path is not None:
        for entry in notes.values():
            entry['file'] = str(path)
    return notes


def note_versions(model: nn.Module, weights: dict[str, Any]) -> None:
    """Say of weights without notes that they are of the first version of each module that they are in or beside."""
    notes = saved_notes(weights)
    if notes.keys() <= {''}:
        parents = {name[: dot.start()] for name in weights for dot in re.finditer(r'\.', name)}
        for name, _ in model.named_modules(remove_duplicate=False):
            if name and (name in parents or name.rpartition('.')[0] in parents):
                notes[name] = dict(notes[''], version=1)
    weights._metadata = notes


def part_of_weights(weights: dict[str, Any], prefix: str) -> OrderedDict[str, Any]:
    """Return the weights whose names begin with a prefix, without it, and their notes."""
    prefix = prefix if prefix.endswith('.') else f'{prefix}.'
    part = OrderedDict((name[len(prefix) :], value) for name, value in weights.items() if name.startswith(prefix))
    notes = saved_notes(weights)
    part._metadata = {
        name[len(prefix) :]: entry for name, entry in notes.items() if f'{name}.'.startswith(prefix) or not name
    }
    return part


def model_weights(checkpoint: Any, path: PathLike | None = None) -> OrderedDict[str, torch.Tensor]:
    """Return the weights in a checkpoint, without the prefix that a parallel wrapper leaves, and their notes.

    Args:
        checkpoint: What the file holds.
        path: The file, for messages.

    Raises:
        CheckpointError: There are none, or they have no names.
    """
    what = 'the checkpoint' if path is None else f'checkpoint {path}'
    state = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f'{what} holds no weights (no state_dict)')
    nameless = [key for key in state if not isinstance(key, str)]
    if nameless:
        raise CheckpointError(f'{what} holds weights whose names are no words: {nameless[0]!r}')
    weights = OrderedDict((re.sub(r'^module\.', '', key), value) for key, value in state.items())
    weights._metadata = saved_notes(state, path)
    return weights


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> Mismatch:
    """Load weights into a model as far as they fit, and say what did not.

    The model's own hooks for older names run, as they do in any loading. Weights without notes are taken for those of
    the first version of every module. Where parameters are spread over processes, each takes its part.

    Raises:
        CheckpointError: A weight is no tensor.
    """
    given, weights = weights, OrderedDict(weights)
    weights._metadata = saved_notes(given)
    note_versions(model, weights)
    shape: list[str] = []
    while True:
        try:
            with whole_parameters(model):
                result = model.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            wrong = re.findall(r'size mismatch for ([^:\s]+):', str(error))
            wrong = [name for name in wrong if name in weights]
            if not wrong:
                kinds = {name: type(value).__name__ for name, value in weights.items() if not torch.is_tensor(value)}
                if not kinds:
                    raise
                name, kind = next(iter(kinds.items()))
                raise CheckpointError(f'the checkpoint does not fit the model: {name} is {kind}, no tensor') from error
            shape += wrong
            for name in wrong:
                del weights[name]
        else:
            missing = [name for name in result.missing_keys if name not in shape]
            return Mismatch(missing, list(result.unexpected_keys), shape)


def force_safe_loading() -> AbstractContextManager[None]:
    """Make every ``torch.load`` of this process, mmengine's included, load data only while the block runs."""
    return every_load_as_data(allowed_types())


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_disk(filename: str, map_location: Any) -> Any:
    """Load a local file as mmengine does, or the weights of a packed folder, wherever mmengine takes a checkpoint.

    The folder may be named by its path, or as a network that comes with the package.
    """
    if (folder := located(filename)) is not None:
        return packed_checkpoint(folder, map_location)
    return load_from_local(filename, map_location)
