"""Detection of recorders, for which only plain operations are computed, and of tensors without values."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake
from torch.autograd import forward_ad
from torch.utils import _python_dispatch


def is_recording() -> bool:
    """Return whether ``torch.jit.trace``, a tool built on it, or ``torch.export`` is recording operations.

    A function with a gradient of its own breaks such a record: it fails on constants that the function reads, it cannot
    be saved, and whoever counts operations sees none inside. So a record has plain operations, and is for inference.
    """
    # The flag itself (2.7 and later), not ``torch.compiler.is_exporting()``: torch 2.11 takes that for true in whatever
    # it compiles.
    return torch.jit.is_tracing() or getattr(torch.compiler, '_is_exporting_flag', False)


def is_counting() -> bool:
    """Return whether torch's ``FlopCounterMode`` counts the operations."""
    modes = getattr(_python_dispatch, '_get_current_dispatch_mode_stack', list)()
    return any('FlopCounter' in type(mode).__name__ for mode in modes)


def is_transforming() -> bool:
    """Return whether ``torch.func`` transforms what is computed, or derivatives are carried forward along with it."""
    active = getattr(torch._C, '_are_functorch_transforms_active', bool)
    return active() or forward_ad._current_level >= 0


def has_values(tensor: Tensor) -> bool:
    """Return whether a tensor has values: not on the meta device, nor under ``FakeTensorMode``."""
    return not (tensor.is_meta or is_fake(tensor))
