"""Lets mmcv's ops fall back on the stand-in, and mmpretrain on its plain parts, from the start of the interpreter on.

The libraries' own tools import their models before they read the configuration that names ``qsdt_mm``. So this package
is also installed as ``_qsdt_mm``, which the file ``qsdt_mm.pth`` imports whenever Python starts: it may need
nothing but ``sys`` until one of the modules concerned is asked for.
"""

from __future__ import annotations

import sys

EXTENSION = 'mmcv._ext'
SWITCHED = ('mmpretrain.models.utils', 'mmpretrain.models.multimodal', 'mmpretrain.datasets')
"""The packages of mmpretrain that take in multimodal parts."""


def stand_in() -> str:
    """Return the file of the stand-in, seen from either name of this package."""
    from pathlib import Path

    parent = Path(__file__).parents[1]
    return str(next(path for path in (parent / 'mmcv_ext.py', parent / 'qsdt_mm/compat/mmcv_ext.py') if path.is_file()))


class StandInFinder:
    """Find the stand-in for mmcv's compiled ops, if no other finder knows that module.

    >>> StandInFinder.find_spec('mmcv._ext').name, StandInFinder.find_spec('mmcv.ops')
    ('mmcv._ext', None)
    """

    @classmethod
    def find_spec(cls, fullname: str, path=None, target=None):
        """Return the stand-in's spec under the extension's name; None for any other module."""
        if fullname != EXTENSION:
            return None
        for finder in sys.meta_path:
            if getattr(finder, '__name__', '') != cls.__name__ and hasattr(finder, 'find_spec'):
                compiled = finder.find_spec(fullname, path, target)
                if compiled is not None:
                    return compiled
        from importlib.util import spec_from_file_location

        return spec_from_file_location(EXTENSION, stand_in())


class MultimodalFinder:
    """Find the packages with multimodal parts where they are, with a loader that can do without those.

    >>> MultimodalFinder.find_spec('json') is None
    True
    """

    failure = ''
    """Reason why these parts were switched off in this process; empty if they were not."""

    @classmethod
    def note(cls, failure: str) -> None:
        """Keep the reason."""
        cls.failure = failure

    @classmethod
    def find_spec(cls, fullname: str, path=None, target=None):
        """Return the spec with that loader; None for any other module."""
        if fullname not in SWITCHED:
            return None
        from .multimodal import find

        return find(fullname, path, cls.note)


def in_place(name: str):
    """Return the finder of this name that Python asks, put there under either name of this package; else None."""
    return next((finder for finder in sys.meta_path if getattr(finder, '__name__', '') == name), None)


def install() -> None:
    """Ask one finder before and one after all others; does nothing the second time."""
    if in_place(StandInFinder.__name__) is None:
        sys.meta_path.append(StandInFinder)
    if in_place(MultimodalFinder.__name__) is None:
        sys.meta_path.insert(0, MultimodalFinder)


install()
