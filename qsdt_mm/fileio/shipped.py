"""Networks that come with the package: packed folders with weights, found by name wherever a path is taken."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from .atomic import PathLike
from .folders import CONFIG, is_packed

PACKAGE = Path(__file__).resolve().parents[1]


def shelves() -> list[Path]:
    """Return the folders that hold networks: of an installed package, and of a tree that is used as it lies."""
    tree = PACKAGE.parent
    found = [PACKAGE / 'weights', *([tree / 'weights'] if (tree / 'model-index.yml').is_file() else [])]
    return [path for path in found if path.is_dir()]


def shipped_folders() -> dict[str, Path]:
    """Return the packed folders of the networks that come with the package, by name."""
    found: dict[str, Path] = {}
    for shelf in shelves():
        for path in sorted(shelf.iterdir()):
            if (path / CONFIG).is_file():
                found.setdefault(path.name, path)
    return dict(sorted(found.items()))


def is_name(path: PathLike) -> bool:
    """Return whether a path is a bare word, which may be the name of a network."""
    text = os.fspath(path)
    return bool(text) and not any(sign in text for sign in ('/', os.sep, '://', '\0')) and text not in ('.', '..')


def located(path: PathLike) -> Path | None:
    """Return the packed folder that a path or a name means; None if it means none.

    A packed folder of that path comes before a network of that name, and so does a file.
    """
    try:
        here = Path(path).expanduser()
        if is_packed(here):
            return here
        if not is_name(path) or here.is_file():
            return None
    except (OSError, RuntimeError, ValueError):  # too long, or of a home that nobody has
        return None
    return shipped_folders().get(os.fspath(path))


def meant(path: PathLike) -> str:
    """Return which network a name is near to, as an addition to a message that there is none; empty if to none."""
    if not is_name(path):
        return ''
    names = {name.lower(): name for name in shipped_folders()}
    near = difflib.get_close_matches(os.fspath(path).lower(), names, n=1, cutoff=0.75)
    return f' (did you mean {names[near[0]]}?)' if near else ''
