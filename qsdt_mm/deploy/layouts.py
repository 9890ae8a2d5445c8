"""Functions of torch that move values or choose among them: exact whatever the values are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .recording import Node


def reshape(values: Tensor, shape: list[int]) -> Tensor:
    """Reshape; 0 keeps a dimension."""
    return values.reshape([values.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def repeat_in_front(values: Tensor, times: int) -> Tensor:
    """Show values so many times, in a new dimension before all others."""
    return values.expand(times, *values.shape)


LAYOUTS: dict[str, Callable[..., Tensor]] = dict(
    flatten=lambda x, start, end: x.flatten(start, end),
    unflatten=lambda x, dim, sizes: x.unflatten(dim, sizes),
    reshape=reshape,
    repeat_in_front=repeat_in_front,
    permute=lambda x, dims: x.permute(dims),
    cat=lambda *xs, dim: torch.cat(xs, dim),
    chunk=lambda x, chunks, dim, index: x.chunk(chunks, dim)[index],
    unbind=lambda x, dim, index: x.unbind(dim)[index],
    nearest=lambda x, size: F.interpolate(x, tuple(size), mode='nearest'),
    max_pool=lambda x, kernel, stride, padding: F.max_pool2d(x, kernel, stride, padding),
    relu=lambda x: x.relu(),
)
SAME = (Tensor.contiguous, Tensor.clone, torch.clone, Tensor.detach)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _reshaped(node: Node, *shape: Any) -> tuple[str, dict[str, Any]] | None:
    sizes = list(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else list(shape)
    before = node.inputs[0].shape
    if sizes[0] == before[0]:  # the batch, whose size is another each time
        sizes[0] = 0
    return 'reshape', dict(shape=[int(size) for size in sizes])


def _expanded(node: Node, *shape: Any) -> tuple[str, dict[str, Any]] | None:
    sizes = list(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else list(shape)
    before = node.inputs[0].shape
    if len(sizes) != len(before) + 1 or any(size not in (-1, old) for size, old in zip(sizes[1:], before)):
        return None
    return 'repeat_in_front', dict(times=int(sizes[0]))


def _interpolated(
    node: Node, input: Any, size: Any = None, scale_factor: Any = None, mode: str = 'nearest', *args: Any, **kwargs: Any
) -> tuple[str, dict[str, Any]] | None:
    return ('nearest', dict(size=[int(n) for n in node.shape[2:]])) if mode == 'nearest' else None


def _pooled(
    node: Node,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[str, dict[str, Any]] | None:
    if ceil_mode or return_indices or _pair(dilation) != [1, 1]:
        return None
    return 'max_pool', dict(kernel=_pair(kernel_size), stride=_pair(stride or kernel_size), padding=_pair(padding))


def _relu(node: Node, *args: Any, **kwargs: Any) -> tuple[str, dict[str, Any]]:
    return 'relu', {}


def _permuted(node: Node, x: Any, *dims: Any) -> tuple[str, dict[str, Any]]:
    return 'permute', dict(dims=list(dims[0]) if len(dims) == 1 and not isinstance(dims[0], int) else list(dims))


def _transposed(node: Node, x: Any, dim0: int, dim1: int) -> tuple[str, dict[str, Any]]:
    dims = list(range(len(x.shape)))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return 'permute', dict(dims=dims)


def _flattened(node: Node, x: Any, start_dim: int = 0, end_dim: int = -1) -> tuple[str, dict[str, Any]]:
    return 'flatten', dict(start=start_dim, end=end_dim)


def _unflattened(node: Node, x: Any, dim: int, sizes: Any) -> tuple[str, dict[str, Any]]:
    return 'unflatten', dict(dim=dim, sizes=[int(size) for size in sizes])


def _joined(node: Node, xs: Any, dim: int = 0) -> tuple[str, dict[str, Any]]:
    return 'cat', dict(dim=dim)


def _chunked(node: Node, x: Any, chunks: int, dim: int = 0) -> tuple[str, dict[str, Any]]:
    return 'chunk', dict(chunks=chunks, dim=dim, index=node.index)


def _unbound(node: Node, x: Any, dim: int = 0) -> tuple[str, dict[str, Any]]:
    return 'unbind', dict(dim=dim, index=node.index)


FORMS: dict[Callable, Callable[..., tuple[str, dict[str, Any]] | None]] = {
    Tensor.flatten: _flattened,
    torch.flatten: _flattened,
    Tensor.unflatten: _unflattened,
    Tensor.view: lambda node, x, *shape: _reshaped(node, *shape),
    Tensor.reshape: lambda node, x, *shape: _reshaped(node, *shape),
    torch.reshape: lambda node, x, *shape: _reshaped(node, *shape),
    Tensor.expand: lambda node, x, *shape: _expanded(node, *shape),
    Tensor.permute: _permuted,
    torch.permute: _permuted,
    Tensor.transpose: _transposed,
    torch.transpose: _transposed,
    torch.cat: _joined,
    Tensor.chunk: _chunked,
    torch.chunk: _chunked,
    Tensor.unbind: _unbound,
    torch.unbind: _unbound,
    F.interpolate: _interpolated,
    F.max_pool2d: _pooled,
    torch.max_pool2d: _pooled,
    Tensor.relu: _relu,
    torch.relu: _relu,
    F.relu: _relu,
}


def layout_of(node: Node) -> tuple[str, dict[str, Any]] | None:
    """Return the name and arguments of a call that only moves values; ``('same', {})`` where it does nothing."""
    if node.function in SAME:
        return 'same', {}
    form = FORMS.get(node.function)
    return form(node, *node.args, **node.kwargs) if form else None
