"""When to compute with plain operations only, for a record of them."""

from __future__ import annotations

import torch


def is_recording() -> bool:
    """Whether ``torch.jit.trace``, or a tool built on it, is recording operations.

    A function with a gradient of its own breaks such a record: it fails on constants that the function reads, it cannot
    be saved, and whoever counts operations sees none inside. So a record has plain operations, and is for inference.
    """
    return torch.jit.is_tracing()
