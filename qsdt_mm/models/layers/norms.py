"""Batch norm whose output is derived again from its input, which it keeps for its gradient, instead of kept."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from qsdt_mm.ops import compact_saving

from .norm_counters import batch_norm


def normalise(norm: nn.Module, membrane: Tensor) -> Tensor:
    """Apply ``norm``; the next layer saves nothing of it for the backward pass, where :func:`can_repeat`."""
    out = batch_norm(norm, membrane)
    if can_repeat(norm):
        compact_saving.register_recompute(out, partial(repeat, norm), membrane)
    return out


def can_repeat(norm: nn.Module) -> bool:
    """Return whether a norm in training can be repeated, and tensors are being saved compactly."""
    return compact_saving.is_compact() and type(norm) is nn.BatchNorm2d and norm.training


def repeat(norm: nn.BatchNorm2d, membrane: Tensor) -> Tensor:
    """Repeat the output of a norm in training on a batch, without touching its statistics."""
    return F.batch_norm(membrane, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
