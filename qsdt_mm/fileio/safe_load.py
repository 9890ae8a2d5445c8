"""Loading files as data only: by torch where it can be told what a file may hold, else by an unpickler of our own."""

from __future__ import annotations

import codecs
import collections
import os
import pickle
import re
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

FORCE_SAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
"""Makes every ``torch.load`` load data only, whatever it is told."""

_load = torch.load


def has_safe_globals() -> bool:
    """Return whether torch can be told the contents a file may hold under each name: 2.6 and later."""
    return tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 6)


def numpy_rebuilders() -> list[tuple[Any, str]]:
    """List the builders of numpy's arrays and scalars, under the names that files of both its generations use."""
    core = getattr(np, '_core', None)
    multiarray = core.multiarray if hasattr(core, 'multiarray') else np.core.multiarray  # 1.26 has a hollow _core
    return [
        (item, f'numpy.{room}.multiarray.{item.__name__}')
        for room in ('_core', 'core')
        for item in (multiarray._reconstruct, multiarray.scalar)
    ]


def load_as_data(path: str | Path, map_location: Any, allowed: Sequence[Any]) -> Any:
    """Load a file as ``torch.load`` does, finding the allowed types and the parts of tensors, and nothing else.

    Args:
        path: A file.
        map_location: As in ``torch.load``.
        allowed: Classes and functions; a pair of one and the name under which files know it.

    Raises:
        pickle.UnpicklingError: The file asks for anything else, or is damaged.
    """
    if not has_safe_globals():
        return _load_restricted(path, map_location, allowed)
    with torch.serialization.safe_globals(list(allowed)):
        return torch.load(path, map_location=map_location, weights_only=True)


def _names(allowed: Sequence[Any]) -> dict[str, Any]:
    """List the names allowed in a file: the given types, and the parts of tensors and plain containers."""
    known = [*allowed, codecs.encode, set, bytearray, collections.OrderedDict, torch.Size]
    known += [getattr(torch._utils, f'_rebuild_{kind}') for kind in ('tensor', 'tensor_v2', 'parameter')]
    names = {f'{item.__module__}.{item.__qualname__}': item for item in known if not isinstance(item, tuple)}
    names.update({name: item for item, name in (pair for pair in known if isinstance(pair, tuple))})
    return names


def _holds_program(path: Any) -> bool:
    """Return whether older versions of ``torch.load`` would pass the file, or open file, to ``torch.jit.load``."""
    with torch.serialization._open_file_like(path, 'rb') as file:
        place = file.tell()
        try:
            if not torch.serialization._is_zipfile(file):
                return False
            with torch.serialization._open_zipfile_reader(file) as records:
                return torch.serialization._is_torchscript_zip(records)
        finally:
            file.seek(place)


def _load_restricted(path: Any, map_location: Any, allowed: Sequence[Any]) -> Any:
    """Stand in for ``safe_globals``: an unpickler that finds what is allowed."""
    if _holds_program(path):
        raise pickle.UnpicklingError('GLOBAL torch.jit.load was not an allowed global')
    names = _names(allowed)

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full = f'{module.replace("__builtin__", "builtins")}.{name}'
            if full in names:
                return names[full]
            dtype = isinstance(getattr(torch, name, None), torch.dtype)
            if module == 'torch' and (dtype or re.fullmatch(r'[A-Z][A-Za-z0-9]*Storage', name)):
                return getattr(torch, name)
            if full == 'torch.storage.UntypedStorage':
                return torch.UntypedStorage
            raise pickle.UnpicklingError(f'GLOBAL {full} was not an allowed global')

    def load(file: Any, **kwargs: Any) -> Any:
        return Unpickler(file, **kwargs).load()

    module = types.SimpleNamespace(  # what torch.load asks of a pickle module
        __name__='restricted_pickle', Unpickler=Unpickler, UnpicklingError=pickle.UnpicklingError, load=load
    )
    forced = os.environ.pop(FORCE_SAFE, None)  # torch refuses it together with a pickle module
    try:
        return _load(path, map_location=map_location, pickle_module=module, weights_only=False)
    finally:
        if forced is not None:
            os.environ[FORCE_SAFE] = forced


@contextmanager
def every_load_as_data(allowed: Sequence[Any]) -> Iterator[None]:
    """Make every ``torch.load`` of this process load data only while the block runs, whoever calls it.

    Args:
        allowed: As in :func:`load_as_data`; of use to older versions of torch, where callers cannot say it themselves.
    """

    def load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        return _load_restricted(f, map_location, allowed)

    before, load_before = os.environ.get(FORCE_SAFE), torch.load
    os.environ[FORCE_SAFE] = '1'
    if not has_safe_globals():
        torch.load = load
    try:
        yield
    finally:
        torch.load = load_before
        if before is None:
            os.environ.pop(FORCE_SAFE, None)
        else:
            os.environ[FORCE_SAFE] = before
