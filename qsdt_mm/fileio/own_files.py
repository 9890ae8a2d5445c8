"""Files that belong to a run: nothing outside of its own directories is ever removed or written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process

from .atomic import PathLike, atomic_path

LAST = 'last_checkpoint'


def place(path: PathLike) -> str:
    """Return a path by which two names of one place are equal: links are followed but for the last part."""
    text = str(path)
    if '://' in text:
        return text.rstrip('/')
    head, name = os.path.split(os.path.abspath(text))
    return os.path.join(os.path.realpath(head), name)


def inside(path: PathLike, directories: Iterable[PathLike]) -> bool:
    """Return whether a file lies directly in one of these directories, whatever links lead there."""
    folder = os.path.dirname(place(path))
    return folder in {text if '://' in (text := place(d)) else os.path.realpath(text) for d in directories}


def checkpoint_dir(work_dir: PathLike, out_dir: PathLike | None) -> str:
    """Return the folder of mmengine's ``CheckpointHook``: the work directory, or one of its name in ``out_dir``."""
    if out_dir is None or str(out_dir) == str(work_dir):
        return str(work_dir)
    return os.path.join(str(out_dir), os.path.basename(str(work_dir).rstrip(os.sep)))


def directories_of(cfg: Any, work_dir: PathLike) -> list[Path]:
    """Return the local directories that a configuration's run saves checkpoints in, the work directory first."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    found = [Path(work_dir)]
    for hook in hooks:
        named = isinstance(hook, Mapping) and str(hook.get('type')).rstrip("'>").endswith('CheckpointHook')
        out = hook.get('out_dir') if named else None
        if out and '://' not in str(out):
            found.append(Path(checkpoint_dir(os.path.abspath(work_dir), out)))
    return list(dict.fromkeys(found))


def cut_links(path: PathLike) -> None:
    """Make a file that has other names, by symbolic or hard links, one of its own, so that writing it changes no other.

    Libraries open some files of a work directory in place.
    """
    path = Path(path)
    if path.is_dir():
        return
    if path.is_symlink() and not path.is_file():  # leads nowhere yet, but would be written there
        path.unlink()
    elif path.is_file() and (path.is_symlink() or path.stat().st_nlink > 1):
        with atomic_path(path) as beside:
            shutil.copyfile(path, beside)


def start_of(runner: Any) -> str | None:
    """Return the checkpoint that a run starts from: what it was told, or what its work directory names."""
    last = Path(runner.work_dir) / LAST
    if runner._load_from is None and last.is_file():
        return last.read_text().strip()
    return runner._load_from


def keep_to_own_files(runner: Any, out_dir: PathLike | None = None) -> None:
    """Make a run that goes on from a checkpoint forget the files of the run that wrote it.

    mmengine's ``CheckpointHook`` takes from the checkpoint which best checkpoint to remove when there is a better one
    (``best_ckpt``), and which old ones (``keep_ckpt_ids``). What is not in this run's own directories stays; after a
    work directory has been moved or copied, the file of the same name in it takes its place. The best score is kept.

    Args:
        runner: mmengine's, when the checkpoint has been loaded and ``before_train`` of that hook is yet to come.
        out_dir: of that hook.
    """
    saved_in = checkpoint_dir(runner.work_dir, out_dir)
    own = [runner.work_dir, saved_in]
    start = start_of(runner)
    moved_in = bool(runner._resume and start) and not inside(start, own)
    hub = runner.message_hub
    for key in [key for key in hub.runtime_info if key == 'best_ckpt' or key.startswith('best_ckpt_')]:
        path = hub.get_info(key)
        named = isinstance(path, (str, os.PathLike)) and os.path.basename(path).startswith('best_')
        if named and inside(path, own):
            continue
        here = os.path.join(saved_in, os.path.basename(path)) if named else ''
        if named and not moved_in and os.path.exists(here):
            hub.update_info(key, here)
            continue
        hub.pop_info(key)
        if named and os.path.exists(path):
            runner.logger.info(f'The best checkpoint so far, {path}, is not of this work directory: it stays')
    ids = hub.runtime_info.get('keep_ckpt_ids')
    if ids is not None and (moved_in or not all(isinstance(number, int) for number in ids)):
        hub.pop_info('keep_ckpt_ids')
    if is_main_process():
        cut_links(os.path.join(runner.work_dir, LAST))


def remove_unbegun(work_dir: Path, *own: str) -> None:
    """Remove a work directory that a run made which has not begun, unless there is more in it than that run's log.

    Args:
        work_dir: the directory.
        own: names of files in it that are that run's, too.
    """
    if work_dir.is_symlink() or not work_dir.is_dir():
        return
    inner = [path for path in work_dir.iterdir() if path.name not in own]
    if len(inner) <= 1 and all(path.is_dir() and not path.is_symlink() for path in inner):  # else another is at work
        shutil.rmtree(work_dir, ignore_errors=True)
