"""Folders that a tool makes: whole or not there, and nothing of others replaced."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from qsdt_mm.errors import InputError

NOTE = 'meta.json'  # where a tool says that it made the folder: made_by


def check_target(out: Path, tool: str, overwrite: bool) -> None:
    """Refuse to replace what is there, unless it is asked for and was made by the same tool.

    Raises:
        InputError: it is not.
    """
    if not out.exists():
        return
    if not overwrite:
        raise InputError(f'{out} exists: name another folder, or replace it with --overwrite')
    try:
        ours = json.loads((out / NOTE).read_text(encoding='utf-8'))['made_by'] == tool
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise InputError(f'{out} was not made by {tool}: not replaced')


@contextlib.contextmanager
def made_folder(out: Path, tool: str, overwrite: bool) -> Iterator[Path]:
    """Yield a new folder beside ``out``, which takes its place when the block ends without an error.

    The block writes ``meta.json`` with the tool's name as ``made_by``.

    Raises:
        InputError: as :func:`check_target`.
    """
    check_target(out, tool, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f'.{out.name}.tmp{os.getpid()}')
    try:
        beside.mkdir()
        yield beside
        if out.exists():
            old = out.with_name(f'.{out.name}.old{os.getpid()}')
            out.rename(old)
            beside.rename(out)
            shutil.rmtree(old)
        else:
            beside.rename(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
