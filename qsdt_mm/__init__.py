"""Quantized, spike-driven vision transformers for OpenMMLab."""

from typing import Any

from . import models, registry  # noqa: F401  registers
from .analysis import firing_hook  # noqa: F401  registers
from .engine import hooks  # noqa: F401  registers
from .models import IELIF, LIF, SpikeDrivenTransformer
from .version import __version__

__all__ = ['IELIF', 'LIF', 'SpikeDrivenTransformer', '__version__']


def __getattr__(name: str) -> Any:
    if name == 'load_published':  # needs mmpretrain, which takes seconds to import
        from .export.published import load_published

        return load_published
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
