"""What differs between stacks, and what stands in for missing compiled parts; nothing else knows of it.

mmcv's compiled ops (``mmcv._ext``) are missing from every build that pip makes for recent versions of torch or Python,
and mmdet does not import without them. Importing this package makes ``mmcv._ext`` importable where it is absent; in an
environment with ``qsdt_mm`` installed it is so from the start.
"""

from __future__ import annotations

import importlib.util
import sys

from .startup import EXTENSION, StandInFinder, install, stand_in

__all__ = ['StandInFinder', 'found_at_start', 'install', 'ops_are_compiled']


def ops_are_compiled() -> bool | None:
    """Whether mmcv's ops are compiled ones; None without mmcv."""
    if importlib.util.find_spec('mmcv') is None:
        return None
    spec = importlib.util.find_spec(EXTENSION)
    return spec is not None and spec.origin != stand_in()


def found_at_start() -> bool:
    """Whether the stand-in was there before ``qsdt_mm`` was imported: programs that do not know it find it then."""
    return '_qsdt_mm' in sys.modules
