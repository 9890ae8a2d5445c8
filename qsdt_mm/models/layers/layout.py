"""In which order feature maps lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def settle(feature: Tensor) -> Tensor:
    """A feature map ``(N, C, H, W)`` as the convolutions of its device like it best: on a CPU with channels last."""
    if feature.device.type == 'cpu' and feature.dim() == 4:
        return feature.contiguous(memory_format=torch.channels_last)
    return feature


def settle_like(feature: Tensor, other: Tensor) -> Tensor:
    """:func:`settle`, if another feature map has been settled."""
    settled = other.dim() == 4 and other.is_contiguous(memory_format=torch.channels_last)
    return settle(feature) if settled else feature
