"""Differences between stacks, and stand-ins for missing compiled parts; no other room knows of them.

mmcv's compiled ops (``mmcv._ext``) are missing from every build that pip makes for recent versions of torch or Python,
and mmdet does not import without them. Importing this package makes ``mmcv._ext`` importable where it is absent; in an
environment with ``qsdt_mm`` installed it is so from the start. So is a guard that switches mmpretrain's multimodal
parts off where they do not import, which would take all of mmpretrain along.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from .startup import EXTENSION, MultimodalFinder, StandInFinder, in_place, install, stand_in

__all__ = [
    'EXTENSION',
    'StandInFinder',
    'found_at_start',
    'in_place',
    'install',
    'multimodal_failure',
    'ops_are_compiled',
]


def ops_are_compiled() -> bool | None:
    """Return whether mmcv's ops are compiled ones; None without mmcv."""
    if importlib.util.find_spec('mmcv') is None:
        return None
    spec = importlib.util.find_spec(EXTENSION)
    # By name: the finder in place may be that of another copy of this package.
    return spec is not None and Path(spec.origin or '').name != Path(stand_in()).name


def found_at_start() -> bool:
    """Return whether the stand-in was there before ``qsdt_mm`` was imported, for programs that do not know it."""
    return '_qsdt_mm' in sys.modules


def multimodal_failure() -> str:
    """Return the reason why mmpretrain's multimodal parts were switched off in this process, else an empty string."""
    return getattr(in_place(MultimodalFinder.__name__), 'failure', '')
