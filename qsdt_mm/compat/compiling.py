"""Detection of ``torch.compile``, under the different names that versions of torch give it."""

from __future__ import annotations

import torch


def is_compiling() -> bool:
    """Return whether the code is being traced by ``torch.compile`` or ``torch.export``."""
    if hasattr(torch.compiler, 'is_compiling'):  # 2.3 and later
        return torch.compiler.is_compiling()
    return torch._utils.is_compiling()
