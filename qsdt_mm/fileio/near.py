"""Near misses: files that a path which is not there may have meant, and those in a folder given for a file."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from .shipped import PACKAGE, PathLike, meant

CONFIGS = ('.py', '.yml', '.yaml', '.json')
CHECKPOINTS = ('.pth', '.pt', '.ckpt', '.safetensors', '.onnx')
PICTURES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.gif')
LOOKED_AT = 3000
"""Files of the project's configurations that are looked at for a name, at most."""
SHOWN = 6


def kind_of(path: PathLike) -> str | None:
    """Return what a path is by its ending: 'a configuration', 'a checkpoint', 'a picture', or None.

    >>> kind_of('work_dirs/first/epoch_2.pth'), kind_of('mine/net.py'), kind_of('qsd-tiny_1xb32_digits')
    ('a checkpoint', 'a configuration', None)
    """
    ending = os.path.splitext(os.fspath(path))[1].lower()
    kinds = [('a configuration', CONFIGS), ('a checkpoint', CHECKPOINTS), ('a picture', PICTURES)]
    return next((kind for kind, endings in kinds if ending in endings), None)


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return []


def _closest(name: str, names: Sequence[str]) -> str | None:
    by_letters = {entry.lower(): entry for entry in reversed(names)}
    found = difflib.get_close_matches(name.lower(), by_letters, n=1, cutoff=0.75)
    return by_letters[found[0]] if found else None


def _part_by_part(path: Path) -> Path | None:
    """Return the path that there is, with each part that is not there replaced by the closest one."""
    here = Path(path.anchor) if path.anchor else Path()
    for i, part in enumerate(path.parts[1:] if path.anchor else path.parts):
        if not (here / part).exists():
            names = [name for name in _entries(here) if i or not name.startswith('.')]
            part = _closest(part, names) or ''
            if not part:
                return None
        here = here / part
    return here


def _of_that_name(path: Path) -> Path | None:
    """Return a configuration of this name in another folder of the project."""
    homes = [Path('configs'), PACKAGE.parent / 'configs', PACKAGE / '.mim/configs']
    for home in homes:
        files = [file for file, _ in zip(sorted(home.glob('*/*.py')), range(LOOKED_AT))] if home.is_dir() else []
        by_name = {file.name: file for file in reversed(files)}
        found = _closest(path.name if path.suffix else f'{path.name}.py', list(by_name))
        if found:
            return by_name[found]
    return None


def checkpoints_in(folder: Path) -> list[str]:
    """Return the names of checkpoints in a folder: the best first, then the newest."""
    names = [name for name in _entries(folder) if name.endswith(CHECKPOINTS)]
    return sorted(names, key=lambda name: (name.startswith('best_'), os.path.getmtime(folder / name)), reverse=True)


def did_you_mean(path: PathLike, what: str = 'a checkpoint') -> str:
    """Return what a path that is not there may have meant, or what lies in its folder, to add to a message.

    Args:
        path: as it was given.
        what: 'a configuration' or 'a checkpoint'.
    """
    said = meant(path)
    if said:
        return said
    try:
        given = Path(path)
        found = _part_by_part(given)
        if found is not None and not found.is_file():
            found = None
        if found is None and what == 'a configuration':
            found = _of_that_name(given)
        another = found is not None and re.sub(r'\d', '', found.name) == re.sub(r'\d', '', given.name) != given.name
        if found is not None and not (another and what == 'a checkpoint' and found.parent == given.parent):
            return f' (did you mean {found}?)'
        if what == 'a checkpoint' and given.parent.is_dir():
            return _listed(given.parent)
    except (OSError, ValueError):  # too long, or no path at all
        pass
    return ''


def _listed(folder: Path) -> str:
    names = checkpoints_in(folder)
    if not names:
        return ''
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return f' (there are {", ".join(names[:SHOWN])}{more})' if len(names) > 1 else f' (there is {names[0]})'


def folder_holds(folder: PathLike) -> str:
    """Return which checkpoints a folder holds that was given in place of one, to add to a message."""
    return _listed(Path(folder)) or ' (there is no checkpoint in it)'
