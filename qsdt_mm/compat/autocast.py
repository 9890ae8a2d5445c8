"""Questions about mixed precision that versions of torch answer under different names."""

from __future__ import annotations

import torch


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype that convolutions on a device run in now, or None outside of ``torch.autocast``."""
    if device.type == 'meta':
        return None
    if hasattr(torch, 'get_autocast_dtype'):  # 2.4 and later
        return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    if device.type == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
