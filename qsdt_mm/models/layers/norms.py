"""Batch norm whose output is derived again from its input, which it keeps for its gradient, instead of kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from qsdt_mm.compat.sharded import is_sharded
from qsdt_mm.ops import compact_saving


def normalise(norm: nn.Module, membrane: Tensor) -> Tensor:
    """Apply ``norm``; the next layer saves nothing of it for the backward pass, where :func:`can_repeat`."""
    out = norm(membrane)
    if can_repeat(norm):
        compact_saving.register_recompute(out, repeated(norm), membrane)
    return out


def can_repeat(norm: nn.Module) -> bool:
    """Return whether a norm in training can be repeated, and tensors are being saved compactly."""
    # Sharded by itself, it has let its parameters go by now.
    here = type(norm) is nn.BatchNorm2d and not is_sharded(norm.weight)
    return compact_saving.is_compact() and here and norm.training


def repeated(norm: nn.BatchNorm2d) -> Callable[[Tensor], Tensor]:
    """Return the function that repeats the output of a norm in training, without touching its statistics."""
    if getattr(norm, '_is_fsdp_managed_module', False):
        # Whoever asks in the backward pass may be of another part of the network than the one whose parameters are
        # gathered then.
        weight, bias = norm.weight.detach().clone(), norm.bias.detach().clone()
        return lambda membrane: F.batch_norm(membrane, None, None, weight, bias, training=True, eps=norm.eps)
    return partial(repeat, norm)


def repeat(norm: nn.BatchNorm2d, membrane: Tensor) -> Tensor:
    """Repeat the output of a norm in training on a batch, without touching its statistics."""
    return F.batch_norm(membrane, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
