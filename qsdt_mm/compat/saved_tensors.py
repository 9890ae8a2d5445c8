"""Questions about hooks on what autograd saves, which some versions of torch do not answer."""

from __future__ import annotations

from typing import Any

import torch

_top = getattr(torch._C._autograd, '_top_saved_tensors_default_hooks', None)


def can_tell_hooks() -> bool:
    """Return whether this torch tells which hooks are in use."""
    return _top is not None


def saved_tensors_hooks() -> Any:
    """Return the hooks to which autograd gives what it saves now, or None."""
    return _top(True)
