"""Keeps mmpretrain importable where the multimodal models that it also has do not import.

mmpretrain takes in its multimodal parts when pycocotools and any transformers from 4.28 on are installed, and fails as
a whole beside releases that lack what those parts import: transformers 5 is one. Here such a failure switches them off
(``WITH_MULTIMODAL``, mmpretrain's own switch), and mmpretrain then registers what it has in their place: names that ask
for the requirements. Where they import, they stay.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader

PARTS = 'mmpretrain.models.multimodal'


class Loader(SourceFileLoader):
    """Executes a package again without the multimodal parts, if it fails with them.

    Args:
        name, path: of the package.
        note: is told why they were switched off.

    >>> spec = find('json', path=None, note=print)
    >>> type(spec.loader).__name__, spec.loader.name
    ('Loader', 'json')
    """

    def __init__(self, name: str, path: str, note: Callable[[str], None]) -> None:
        super().__init__(name, path)
        self.note = note

    def exec_module(self, module) -> None:
        try:
            super().exec_module(module)
        except Exception as error:
            from mmpretrain.utils import dependency

            if not dependency.WITH_MULTIMODAL:
                raise
            forget_parts()
            dependency.WITH_MULTIMODAL = False
            super().exec_module(module)  # if that fails as well, it was something else
            self.note(' '.join(f'{type(error).__name__}: {error}'.split()))


def forget_parts() -> None:
    """Take out what the multimodal parts registered before one of them failed: the names are needed again."""
    from mmpretrain.registry import MODELS

    for name, module in [*MODELS.module_dict.items()]:
        if getattr(module, '__module__', '').startswith(f'{PARTS}.'):
            del MODELS.module_dict[name]
    for name in [name for name in sys.modules if name.startswith(f'{PARTS}.')]:
        del sys.modules[name]


def find(name: str, path, note: Callable[[str], None]) -> ModuleSpec | None:
    """Return the usual spec of a package, with that loader; None if it is no plain file."""
    spec = PathFinder.find_spec(name, path)
    if spec is None or type(spec.loader) is not SourceFileLoader:
        return None
    spec.loader = Loader(spec.loader.name, spec.loader.path, note)
    return spec
