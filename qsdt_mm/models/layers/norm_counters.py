"""Counters of batch norms (``num_batches_tracked``), added to all at once instead of one by one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qsdt_mm.compat.compiling import is_compiling
from qsdt_mm.compat.tracing import is_recording


class _Waiting(threading.local):
    """Counters of the norms that have seen a batch, and wait to be told."""

    counters: list[Tensor] | None = None


_waiting = _Waiting()


@contextmanager
def counted_at_once() -> Iterator[None]:
    """Let counters of norms that :func:`batch_norm` applies in the context be stepped together when it ends."""
    if is_compiling() or is_recording() or _waiting.counters is not None:
        yield
        return
    _waiting.counters = counters = []
    try:
        yield
    finally:
        _waiting.counters = None
        step(counters)


@torch.no_grad()
def step(counters: list[Tensor]) -> None:
    """Add one to each counter, as often as it is listed."""
    if counters:
        once, times = {id(counter): counter for counter in counters}, Counter(map(id, counters))
        torch._foreach_add_(list(once.values()), [times[key] for key in once])


def count_batch(norm: nn.Module) -> None:
    """Count a batch for a norm in training whose statistics a function of ours updates: now, or with all others."""
    counter = norm.num_batches_tracked
    if counter is None:
        return
    if _waiting.counters is None:
        counter.add_(1)
    else:
        _waiting.counters.append(counter)


def batch_norm(norm: nn.Module, membrane: Tensor) -> Tensor:
    """Apply ``norm``, whose counter may wait if nothing reads it: a plain one in training, without hooks."""
    if _waiting.counters is None or not may_wait(norm):
        return norm(membrane)
    norm._check_input_dim(membrane)
    count_batch(norm)
    statistics = norm.running_mean, norm.running_var
    return F.batch_norm(membrane, *statistics, norm.weight, norm.bias, True, norm.momentum, norm.eps)


def may_wait(norm: nn.Module) -> bool:
    """Return whether a norm does nothing but what :func:`batch_norm` does in its place."""
    # Without a momentum the counter is what statistics are weighted by.
    return (
        type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.num_batches_tracked is not None
        and norm.momentum is not None
        and 'forward' not in vars(norm)
        and not has_hooks(norm)
    )


def has_hooks(module: nn.Module) -> bool:
    """Return whether a hook would see a call of the module."""
    everywhere = nn.modules.module
    return any(
        (
            module._forward_pre_hooks,
            module._forward_hooks,
            module._backward_pre_hooks,
            module._backward_hooks,
            everywhere._global_forward_pre_hooks,
            everywhere._global_forward_hooks,
            everywhere._global_backward_pre_hooks,
            everywhere._global_backward_hooks,
        )
    )
