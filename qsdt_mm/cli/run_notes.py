"""Notes of a run beside its log: its command, in what its configuration differs from its base, versions."""

from __future__ import annotations

import contextlib
import json
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from qsdt_mm.fileio.reports import to_json, write_json
from qsdt_mm.version import __version__

from .cfg_options import names_read
from .runs import NOT_SETTINGS, flat

FILE = 'run.json'
PACKAGES = ('torch', 'torchvision', 'numpy', 'mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'timm')
FILLED_IN = ('collate_fn', 'pin_memory')
"""Keys of loaders that the tools fill in."""


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of the libraries that the run has imported."""
    found = dict(qsdt_mm=__version__, Python=platform.python_version())
    for name in PACKAGES:
        module = sys.modules.get(name)
        if module is not None and getattr(module, '__version__', None):
            found[name] = str(module.__version__)
    return found


def device() -> str:
    """Return what the run computes on, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text(errors='replace').splitlines():
            if line.startswith('model name'):
                return f'{line.partition(":")[2].strip()}, {torch.get_num_threads()} threads'
    return platform.processor() or platform.machine()


def base_of(cfg: Any) -> dict[str, Any] | None:
    """Return the settings of the files that a configuration is based on, merged; None if it has no base."""
    from mmengine.config import Config

    if not cfg.filename or not str(cfg.filename).endswith(('.py', '.yaml', '.yml', '.json')):
        return None
    merged: dict[str, Any] = {}
    for name in Config._get_base_files(cfg.filename):
        path, _ = Config._get_cfg_path(name, cfg.filename)
        merged.update(Config.fromfile(path)._cfg_dict.to_dict())
    return merged or None


def differences_from_base(cfg: Any) -> list[list[Any]]:
    """Return settings in which a configuration differs from its base: key, value there, value here; None where absent.

    Variables and what tools fill in are left out. Without a base there is nothing to differ from.
    """
    base = base_of(cfg)
    if base is None:
        return []
    names = names_read(cfg).difference(NOT_SETTINGS)
    there, here = (
        flat({name: value for name, value in settings.items() if name in names})
        for settings in (base, cfg._cfg_dict.to_dict())
    )
    keys = [key for key in dict.fromkeys([*there, *here]) if there.get(key) != here.get(key)]
    filled = {key for key in keys if key not in there and not {*key.split('.')}.isdisjoint(FILLED_IN)}
    return [[key, there.get(key), here.get(key)] for key in keys if key not in filled]


def write_notes(folder: Path, cfg: Any) -> None:
    """Write the notes of a run that begins.

    Args:
        folder: of its log.
        cfg: its configuration.
    """
    try:
        differing = differences_from_base(cfg)
    except Exception:  # a base that is gone, or of another library: the page is without it
        differing = []
    notes = dict(
        command=shlex.join(['python', *sys.argv]),
        config=str(cfg.filename or ''),
        differences=[[key, *map(_shown, values)] for key, *values in differing],
        versions=versions(),
        device=device(),
    )
    write_json(folder / FILE, notes)


def _shown(value: Any) -> str | None:
    return None if value is None else json.dumps(to_json(value), ensure_ascii=False)


def read_notes(work_dir: Path) -> dict[str, Any]:
    """Return the newest notes in a work directory; empty if there are none that can be read."""
    for path in sorted(work_dir.glob(f'*/{FILE}'), reverse=True):
        with contextlib.suppress(OSError, ValueError):
            notes = json.loads(path.read_text(encoding='utf-8'))
            if isinstance(notes, dict):
                return notes
    return {}
