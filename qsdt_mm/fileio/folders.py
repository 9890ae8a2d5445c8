"""Packed folders: ``config.json``, ``model.safetensors`` and a card, written whole or not at all and read as data."""

from __future__ import annotations

import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from qsdt_mm.errors import CheckpointError, InputError, disk_fault, require

from .atomic import BESIDE, PathLike, atomic_open
from .packing import restore, shrink

FORMAT = 'qsdt_mm packed network'
VERSION = 2
"""Of the format; a change that older readers would misread adds one, and this reader keeps reading all before."""
KINDS = ('deploy', 'trainable')
COMPLETE = 'complete'
"""The kind of a folder that is trainable, and has the whole configuration and, where there can be one, the plan."""
OF_PLAN = 'plan/'
"""Beginning of the names of a plan's tensors in a folder that has others, too."""
CONFIG, TENSORS, CARD = FILES = ('config.json', 'model.safetensors', 'README.md')
NOTES = 'qsdt_mm'
"""Key of the tensors' metadata that says how they were packed."""
LONGEST_CONFIG = 2**24
TYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


@dataclass(frozen=True)
class Packed:
    """Contents of a packed folder.

    Args:
        config: of ``config.json``.
        tensors: by name, as they were before they were packed.
        notes: what else goes with the tensors, by name.

    >>> Packed(dict(kind='deploy'), tensors={}, notes={}).kind
    'deploy'
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    notes: dict[str, Any]

    @property
    def kind(self) -> str:
        """Kind that was read, 'deploy' or 'trainable'."""
        return self.config['kind']


def is_packed(path: PathLike) -> bool:
    """Return whether a path is a folder with a ``config.json``, or one of folders by kind."""
    path = Path(path)
    return any((folder / CONFIG).is_file() for folder in (path, *(path / kind for kind in KINDS)))


def kinds_in(path: PathLike) -> tuple[str, ...]:
    """Return the kinds of a packed folder, as far as they can be read."""
    path = Path(path)
    found = []
    for kind in KINDS:
        with suppress(InputError):
            if kind in _kinds(_read_config(_folder_of_kind(path, kind) / CONFIG)):
                found.append(kind)
    return tuple(found)


def _kinds(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a folder can be read as, by its ``config.json``; the usual first."""
    kind = config.get('kind')
    if kind == COMPLETE:
        return ('trainable', 'deploy') if config.get('plan') is not None else ('trainable',)
    return (kind,) if kind in KINDS else ()


def read_config(path: PathLike) -> dict[str, Any]:
    """Return ``config.json`` of a packed folder, of one of folders by kind that of the weights to train.

    Raises:
        InputError: there is none, or it is damaged or foreign; one line.
    """
    return _read_config(_folder_of_kind(Path(path), 'trainable') / CONFIG)


def packed_settings(path: PathLike) -> dict[str, Any]:
    """Return ``config.json`` of a packed folder that is complete.

    Raises:
        InputError: it is not, or damaged or foreign; one line.
    """
    config = read_config(path)
    if config.get('kind') != COMPLETE or not isinstance(config.get('settings'), dict):
        raise InputError(
            f'packed folder {path} is of kind {str(config.get("kind"))[:40]}: it has no configuration for tools, which '
            '--kind complete packs'
        )
    return config


@contextmanager
def whole_folder(folder: PathLike, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new folder beside ``folder``, which is renamed when the block ends without error.

    Args:
        folder: where it is to appear.
        overwrite: whether to put it in the place of a packed folder.

    Raises:
        InputError: something is there that is not to be overwritten.
        OSError: a file cannot be written (what was there before is left alone).
    """
    folder = Path(os.path.abspath(folder))
    require_free(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside, old = (folder.with_name(f'.{folder.name}{BESIDE}{end}') for end in ('', '.old'))
    for leftover in (beside, old):
        _remove(leftover)
    beside.mkdir()
    try:
        yield beside
        if os.path.lexists(folder):
            os.rename(folder, old)
        try:
            os.rename(beside, folder)
        except OSError:
            if old.exists():
                os.rename(old, folder)
            raise
    except OSError as error:
        if disk_fault(error) and str(beside) in str(error.filename):  # say what was to be there
            raise OSError(error.errno, error.strerror, str(folder)) from error
        raise
    finally:
        _remove(beside)
        _remove(old)


def require_free(folder: PathLike, overwrite: bool = False) -> None:
    """Refuse a folder that is there already, unless it is empty, or a packed one that may be overwritten.

    Raises:
        InputError: it is in the way.
    """
    folder = Path(os.path.abspath(folder))
    if os.path.lexists(folder):
        empty = folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())
        allowed = 'one that does not exist yet' + ('' if overwrite else ', or overwrite=True for a packed one')
        require(empty or overwrite and _is_ours(folder), 'folder', str(folder), allowed, InputError)


def _is_ours(folder: Path) -> bool:
    """Return whether nothing but files of packed folders would be lost."""
    known = {*FILES, *KINDS}
    return (
        not folder.is_symlink()
        and is_packed(folder)
        and all(
            path.name in known and (path.name not in KINDS or all(inner.name in FILES for inner in path.iterdir()))
            for path in folder.iterdir()
        )
    )


def _remove(folder: Path) -> None:
    with suppress(OSError):
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder, ignore_errors=True)


def write_packed(
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    bits: Mapping[str, tuple[int, int]],
    notes: Mapping[str, Any],
    card: str,
    version: int = 1,
) -> None:
    """Write the files of a packed folder into an empty folder.

    Args:
        folder: where they go.
        kind: 'deploy', 'trainable' or 'complete'.
        config: further contents of ``config.json``: numbers, words, lists and dicts.
        tensors: by name.
        bits: of tensors that are packed, see :func:`~qsdt_mm.fileio.packing.shrink`.
        notes: what goes with the tensors.
        card: text of ``README.md``.
        version: of the format, the first that knows all of the contents.
    """
    stored, forms = shrink(tensors, bits)
    _share(stored, forms)
    metadata = {NOTES: _json(dict(notes, forms=forms))}
    content = dict(format=FORMAT, format_version=version, kind=kind, **config)
    lines = ',\n'.join(f' {_json(str(key))}: {_json(value)}' for key, value in content.items())
    texts = {CONFIG: f'{{\n{lines}\n}}\n', CARD: card}
    for name, text in texts.items():
        with atomic_open(folder / name, 'w', encoding='utf-8') as file:
            file.write(text)
    with atomic_open(folder / TENSORS) as file:
        file.write(save(stored, metadata))


def _share(stored: dict[str, Tensor], forms: dict[str, Any]) -> None:
    """Keep integers of few bits that a plan has in common with the network once: the plan's say whose they are."""
    own: dict[bytes, str] = {}
    for name, form in forms.items():
        if form['form'] == 'packed' and not name.startswith(OF_PLAN):
            own.setdefault(stored[name].numpy().tobytes(), name)
    for name in [name for name in forms if name.startswith(OF_PLAN) and forms[name]['form'] == 'packed']:
        other = own.pop(stored[name].numpy().tobytes(), None)  # each is lent once
        if other is not None:
            rows = stored.pop(name)
            if rows.shape == stored[other].shape:
                forms[name]['of'] = other
            else:
                stored[name] = rows


def _unshared(stored: Mapping[str, Tensor], forms: Mapping[str, Any], of_plan: bool) -> tuple[dict, dict]:
    """Return what is stored of a network, or of the plan beside it, and its forms, by the names that it has there.

    Raises:
        InputError: the plan's tensors are not as :func:`_share` lends them.
    """
    found, own, lent = {}, {}, set()
    for name in [*stored, *(name for name in forms if name not in stored)]:
        form = forms.get(name)
        other = form.get('of') if isinstance(form, dict) else None
        if other is not None:
            fits = isinstance(other, str) and other in stored and other not in lent and name.startswith(OF_PLAN)
            require(fits and name not in stored, f'{name}.of', str(other)[:80], 'a tensor of the network', InputError)
            lent.add(other)
        require(other is not None or name in stored, 'tensors', name[:80], 'those in the file', InputError)
        if name.startswith(OF_PLAN) == of_plan:
            short = name.removeprefix(OF_PLAN) if of_plan else name
            found[short] = stored[name if other is None else other]
            if form is not None:
                own[short] = form
    return found, own


def _json(value: Any) -> str:
    return json.dumps(value, separators=(',', ':'), allow_nan=False)


def read_packed(path: PathLike, kind: str | None = None) -> Packed:
    """Read a packed folder as data.

    Args:
        path: the folder, or one that holds a folder ``deploy`` and a folder ``trainable``.
        kind: 'deploy' or 'trainable', the one that is wanted; None: the one that is there, of a folder that is
            complete 'trainable'.

    Raises:
        InputError: the folder is torn, damaged, foreign, of another kind, or of a later version; one line.
    """
    folder = _folder_of_kind(Path(path), kind)
    config = _read_config(folder / CONFIG)
    found, kinds = config.get('kind'), _kinds(config)
    require(bool(kinds), f'{folder / CONFIG}: kind', found, f'{" or ".join(KINDS)}, or {COMPLETE}', InputError)
    if kind is not None and kind not in kinds:
        what = (
            'weights to train, which --kind trainable packs'
            if kind == 'trainable'
            else 'a plan, which --kind deploy packs'
        )
        raise InputError(f'packed folder {folder} is of kind {found}: it has no {what}')
    stored, metadata = _read_tensors(folder / TENSORS)
    try:
        notes = _parsed(metadata.get(NOTES, 'null'))
        require(
            isinstance(notes, dict) and isinstance(notes.get('forms'), dict),
            NOTES,
            notes,
            'notes on its tensors',
            InputError,
        )
        forms = notes.pop('forms')
        if found == COMPLETE:
            stored, forms = _unshared(stored, forms, kind == 'deploy')
        tensors = restore(stored, forms)
    except InputError as error:
        raise InputError(f'{folder / TENSORS}: {error}') from error
    except (ValueError, RecursionError) as error:
        raise InputError(f'{folder / TENSORS} is damaged: its notes are not JSON') from error
    return Packed(dict(config, kind=kind or kinds[0]), tensors, notes)


def _folder_of_kind(path: Path, kind: str | None) -> Path:
    if not path.is_dir():
        raise InputError(f'packed folder {path} does not exist')
    if (path / CONFIG).is_file():
        return path
    inner = [path / name for name in KINDS if (path / name / CONFIG).is_file() and kind in (None, name)]
    if len(inner) > 1:
        raise InputError(f'packed folder {path} holds {" and ".join(KINDS)}: say which kind')
    if not inner:
        raise InputError(f'folder {path} is no packed network{f" of kind {kind}" if kind else ""}: it has no {CONFIG}')
    return inner[0]


def _parsed(text: str) -> Any:
    """Return what JSON says by its own rules: no number beyond all, and no name twice, of which readers take either.

    Raises:
        ValueError, RecursionError: it is none.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError('a name stands twice')
        return found

    def refuse(word: str) -> None:
        raise ValueError(f'{word} is no number')

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        require(size <= LONGEST_CONFIG, f'{path}: bytes', size, f'at most {LONGEST_CONFIG}', InputError)
        config = _parsed(path.read_text(encoding='utf-8'))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path} is truncated or damaged: it is not JSON') from error
    if not isinstance(config, dict) or config.get('format') != FORMAT:
        raise InputError(f'{path} is of another program: its format is not {FORMAT!r}')
    version = config.get('format_version')
    require(type(version) is int and version >= 1, f'{path}: format_version', version, 'an integer >= 1', InputError)
    if version > VERSION:
        raise InputError(f'{path} has format version {version}, this program reads up to {VERSION}: update qsdt_mm')
    return config


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise InputError(f'{path} is missing: the packed folder is torn')
    try:
        with safetensors.safe_open(path, framework='pt') as file:
            # Copies: a file that is changed later must not change the network.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror or error}') from error
    except MemoryError:
        raise
    except Exception as error:  # safetensors' own, or torch's for a type that it lacks
        first = (str(error).strip().splitlines() or [''])[0][:160]
        raise InputError(f'{path} is truncated or damaged ({first})') from error
    for name, tensor in tensors.items():
        known = tensor.dtype in TYPES
        require(known, f'{path}: type of {name[:80]}', str(tensor.dtype), 'whole or real numbers', InputError)
    return tensors, metadata


def trainable_weights(packed: Packed, path: PathLike) -> OrderedDict[str, Tensor]:
    """Return the weights of a packed network, those of few bits as ``integers * step``, and torch's notes on them.

    Raises:
        CheckpointError: a step is missing or does not fit.
    """
    weights = OrderedDict(packed.tensors)
    steps, metadata = packed.notes.get('steps'), packed.notes.get('modules')

    def check(condition: bool, what: str, given: Any, allowed: str) -> None:
        require(condition, f'{path}: {what}', given, allowed, CheckpointError)

    check(isinstance(steps, dict), 'steps', steps, 'steps by weight')
    for name, entry in steps.items():
        fits = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and type(entry[1]) is int
        check(
            fits and name in weights and entry[0] in weights,
            f'step of {name}',
            entry,
            'the name of a tensor, and a dimension',
        )
        integers, step, dim = weights[name], weights[entry[0]], entry[1]
        fits = step.is_floating_point() and 0 <= dim < integers.dim() and step.shape == (integers.shape[dim],)
        check(fits, f'step of {name}', tuple(step.shape), 'one for each output channel')
        weights[name] = integers.to(step.dtype) * step.view(*[1] * dim, -1, *[1] * (integers.dim() - 1 - dim))
    same = packed.notes.get('same', {})
    check(isinstance(same, dict), 'same', same, 'names of tensors')
    for name, other in same.items():
        known = isinstance(other, str) and other in packed.tensors and name not in packed.tensors
        check(known, f'same as {name}', other, 'the name of another tensor')
        weights[name] = weights[other]
    plain = isinstance(metadata, dict) and all(
        isinstance(note, dict) and all(isinstance(value, (str, int, float, type(None))) for value in note.values())
        for note in metadata.values()
    )
    check(plain, 'modules', type(metadata).__name__, 'notes by module')
    weights._metadata = {name: dict(note) for name, note in metadata.items()}
    return weights


def packed_checkpoint(path: PathLike, map_location: Any = 'cpu') -> dict[str, Any]:
    """Return a packed network's weights as a checkpoint holds them.

    Raises:
        CheckpointError: the folder cannot be loaded; one line.
    """
    try:
        packed = read_packed(path, 'trainable')
        weights = trainable_weights(packed, path)
        meta = dict(dataset_meta=dataset_meta(packed.config)) if packed.config.get('classes') else {}
    except CheckpointError:
        raise
    except InputError as error:
        raise CheckpointError(str(error)) from error
    if isinstance(map_location, (str, torch.device)):
        notes = weights._metadata
        weights = OrderedDict((name, value.to(map_location)) for name, value in weights.items())
        weights._metadata = notes
    return dict(state_dict=weights, meta=meta)


def dataset_meta(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return names and colours of classes in ``config.json``, as far as they are noted, as the libraries hold them.

    Raises:
        InputError: they are no list of words, or no colours.
    """
    classes, palette = config.get('classes') or [], config.get('palette')
    words = isinstance(classes, list) and all(isinstance(word, str) for word in classes)
    require(words, 'config.json: classes', str(classes)[:80], 'a list of words', InputError)
    colours = palette is None or isinstance(palette, list) and len(palette) == len(classes)
    for colour in palette or () if colours else ():
        colours &= (
            isinstance(colour, list) and len(colour) == 3 and all(type(n) is int and 0 <= n < 256 for n in colour)
        )
    require(colours, 'config.json: palette', str(palette)[:80], 'three numbers of 0 to 255 for each class', InputError)
    return dict(classes=tuple(classes), **(dict(palette=palette) if palette else {}))
