"""Counters by which the last program of a launch finds out that it is: it adds up what the others have left."""

from __future__ import annotations

import torch
from torch import Tensor

from qsdt_mm.ops.compact_saving import stream_of

LEAST = 4096
"""Counters of a stream, at least."""
IN_GRAPHS = 1 << 18
"""Counters of a device for launches in CUDA graphs, each of which has its own for good."""

_of_streams: dict[tuple[torch.device, int | None], Tensor] = {}
_for_graphs: dict[torch.device, Tensor] = {}


def arrivals_of(x: Tensor, count: int) -> Tensor:
    """Return counters of programs, all 0, that no other stream or CUDA graph uses; each launch leaves them at 0."""
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        left = _for_graphs.get(x.device)
        if left is None or left.numel() < count:
            return torch.zeros(count, dtype=torch.int32, device=x.device)  # set to 0 in each replay
        _for_graphs[x.device] = left[count:]
        return left[:count]
    key = x.device, stream_of((x,))
    if key not in _of_streams or _of_streams[key].numel() < count:
        _of_streams[key] = torch.zeros(max(count, LEAST), dtype=torch.int32, device=x.device)
        if x.is_cuda and x.device not in _for_graphs:
            # Not in memory of a graph, and set to 0 before any is captured, which waits for all work.
            _for_graphs[x.device] = torch.zeros(IN_GRAPHS, dtype=torch.int32, device=x.device)
    return _of_streams[key]
