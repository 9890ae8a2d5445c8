"""Tensors that launches of kernels read beside what they are given, for whoever repeats those launches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


class _Held(threading.local):
    """Tensors that kernels have read, where somebody asks."""

    tensors: list[Tensor] | None = None


_held = _Held()


@contextmanager
def holding() -> Iterator[list[Tensor]]:
    """Collect what kernels that are launched in the context read, but nobody else keeps: tables of addresses."""
    before, _held.tensors = _held.tensors, []
    try:
        yield _held.tensors
    finally:
        _held.tensors = before


def hold(*tensors: Tensor) -> None:
    """Note tensors that a launch reads, and that a cache may drop."""
    if _held.tensors is not None:
        _held.tensors += tensors
