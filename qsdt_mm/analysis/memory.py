"""Bytes that a network keeps for its backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from qsdt_mm.ops import compact_saving


def bytes_saved_for_backward(model: nn.Module, run: Callable[[], Any]) -> int:
    """Count the bytes of all distinct storages that autograd keeps after ``run()``, without those of parameters.

    Short forms (:mod:`qsdt_mm.ops.compact_saving`) count as what is really kept.

    Args:
        model: its parameters do not count.
        run: a forward pass; what it returns is dropped after counting.
    """
    known = {compact_saving.memory_of(p) or id(p) for p in model.parameters()}
    sizes: dict[int, int] = {}
    alive: list[Any] = []  # memory is not given away while its tensor lives

    def count(*tensors: Tensor) -> None:
        for tensor in tensors:
            memory = compact_saving.memory_of(tensor)
            if (memory or id(tensor)) not in known:
                sizes[memory or id(tensor)] = tensor.untyped_storage().nbytes() if memory else tensor.nbytes
        alive.extend(tensors)

    def keep(tensor: Tensor) -> Tensor:
        count(tensor)
        return tensor

    pack = compact_saving.CompressedTensors.pack

    def keep_short(registered: compact_saving.CompressedTensors, tensor: Tensor) -> Any:
        kept = pack(registered, tensor)
        count(*((kept,) if isinstance(kept, Tensor) else kept.form.held))
        return kept

    with (
        mock.patch.object(compact_saving.CompressedTensors, 'pack', keep_short),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        alive.append(run())
    return sum(sizes.values())
