"""What differs between stacks, and what stands in for missing compiled parts; nothing else knows of it.

mmcv's compiled ops (``mmcv._ext``) are missing from every build that pip makes for recent versions of torch or Python,
and mmdet does not import without them. Importing this package makes ``mmcv._ext`` importable where it is absent.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

EXTENSION = 'mmcv._ext'
STAND_IN = Path(__file__).with_name('mmcv_ext.py')


class StandInFinder(MetaPathFinder):
    """Finds the stand-in for mmcv's compiled ops; asked last, so that compiled ones win."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The stand-in's spec under the extension's name; None for any other module."""
        return importlib.util.spec_from_file_location(EXTENSION, STAND_IN) if fullname == EXTENSION else None


def install() -> None:
    """Let mmcv's ops fall back on the stand-in; does nothing the second time."""
    if StandInFinder not in sys.meta_path:
        sys.meta_path.append(StandInFinder)


install()


def ops_are_compiled() -> bool | None:
    """Whether mmcv's ops are compiled ones; None without mmcv."""
    if importlib.util.find_spec('mmcv') is None:
        return None
    spec = importlib.util.find_spec(EXTENSION)
    return spec is not None and spec.origin != str(STAND_IN)
