"""Tensors that launches of kernels read beside what they are given, for whoever repeats those launches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

# Of all threads: a backward pass on a GPU runs in one of autograd's own.
_listeners: list[list[Tensor]] = []


@contextmanager
def holding() -> Iterator[list[Tensor]]:
    """Collect what kernels that are launched in the context read, but nobody else keeps: tables of addresses."""
    tensors: list[Tensor] = []
    _listeners.append(tensors)
    try:
        yield tensors
    finally:
        _listeners[:] = [other for other in _listeners if other is not tensors]


def hold(*tensors: Tensor) -> None:
    """Note tensors that a launch reads, and that a cache may drop."""
    for listener in tuple(_listeners):
        listener += tensors


def is_holding() -> bool:
    """Return whether somebody collects tensors, to repeat the launches that read them."""
    return bool(_listeners)
