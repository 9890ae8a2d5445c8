"""Lets mmcv's ops fall back on the stand-in, from the start of the interpreter on.

mmdet's own tools import its models before they read the configuration that names ``qsdt_mm``. So this package is also
installed as ``_qsdt_mm``, which the file ``qsdt_mm.pth`` imports whenever Python starts: it may need nothing but
``sys`` until mmcv's ops are asked for.
"""

from __future__ import annotations

import sys

EXTENSION = 'mmcv._ext'


def stand_in() -> str:
    """The file of the stand-in, seen from either name of this package."""
    from pathlib import Path

    parent = Path(__file__).parents[1]
    return str(next(path for path in (parent / 'mmcv_ext.py', parent / 'qsdt_mm/compat/mmcv_ext.py') if path.is_file()))


class StandInFinder:
    """Finds the stand-in for mmcv's compiled ops, if no other finder knows that module."""

    @classmethod
    def find_spec(cls, fullname: str, path=None, target=None):
        """The stand-in's spec under the extension's name; None for any other module."""
        if fullname != EXTENSION:
            return None
        for finder in sys.meta_path:
            if getattr(finder, '__name__', '') != cls.__name__ and hasattr(finder, 'find_spec'):
                compiled = finder.find_spec(fullname, path, target)
                if compiled is not None:
                    return compiled
        from importlib.util import spec_from_file_location

        return spec_from_file_location(EXTENSION, stand_in())


def install() -> None:
    """Ask the finder after all others; does nothing the second time, under either name of this package."""
    if not any(getattr(finder, '__name__', '') == StandInFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.append(StandInFinder)


install()
