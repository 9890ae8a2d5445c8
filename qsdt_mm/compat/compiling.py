"""Whether ``torch.compile`` looks at the code, a question that versions of torch answer under different names."""

from __future__ import annotations

import torch


def is_compiling() -> bool:
    """Whether the code is being traced by ``torch.compile`` or ``torch.export``."""
    if hasattr(torch.compiler, 'is_compiling'):  # 2.3 and later
        return torch.compiler.is_compiling()
    return torch._utils.is_compiling()
