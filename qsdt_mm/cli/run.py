"""Shared steps of tools/train.py and tools/test.py: from a configuration to a runner; a failed start leaves nothing."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qsdt_mm.compat.wrappers import unwrap

from .builders import build_runner
from .config import default_loaders, import_library, set_work_dir
from .shell import Session


def complete_config(cfg: Any, args: argparse.Namespace) -> Path:
    """Import the configuration's library, fill in what its own tools would, and return the work directory.

    Args:
        cfg: the configuration, changed in place.
        args: of the command line: ``config`` and ``work_dir``.
    """
    import_library(cfg)
    default_loaders(cfg)
    return set_work_dir(cfg, args.config, args.work_dir)


@contextlib.contextmanager
def launched(cfg: Any, launcher: str, session: Session) -> Iterator[None]:
    """Start the processes of a run; a work directory that the block made goes if the run does not begin in it.

    Args:
        cfg: the configuration, with its ``work_dir``.
        launcher: of distributed runs, see :func:`qsdt_mm.engine.launch.prepare_launcher`.
        session: says what there is to say, and whether the run began.
    """
    from mmengine.dist import is_main_process

    from qsdt_mm.engine.launch import prepare_launcher
    from qsdt_mm.fileio.own_files import remove_unbegun

    for remark in prepare_launcher(cfg, launcher):
        session.note(remark)
    work_dir = Path(cfg.work_dir)
    was_there = work_dir.exists()
    try:
        yield
    except BaseException:
        if not session.started and not was_there and is_main_process():
            remove_unbegun(work_dir)
        raise


def build_run(cfg: Any, session: Session) -> tuple[Any, Any]:
    """Build the runner; return it and its network, without wrappers."""
    with session.stage('building the run and its model'):
        runner = build_runner(cfg)
    return runner, unwrap(runner.model)
