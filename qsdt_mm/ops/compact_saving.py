"""Compact storage of tensors for the backward pass: spikes as bytes, nothing that can be derived.

Spikes are small integers times a constant; what reads them saves them for its gradient as floats, as it does low-bit
weights. While :func:`compact_saving` is on, neurons, quantizers and chains say which of their outputs can be
restored from less, and autograd keeps that instead. The restored tensors equal the saved ones, bit for bit.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from qsdt_mm.compat.compiling import is_compiling
from qsdt_mm.compat.renamed import refuse_old_names
from qsdt_mm.compat.tracing import is_recording

__getattr__ = refuse_old_names(__name__, 'Ledger', 'ShortForm', 'halve', 'note_derived', 'note_product', 'unhalve')


class Compressed(NamedTuple):
    """Compact form of a tensor.

    Args:
        restore: makes the tensor again, with the strides that it had.
        held: the tensors that ``restore`` needs.

    >>> code = torch.ones(2, dtype=torch.uint8)
    >>> Compressed(restore=lambda: code * 0.5, held=(code,)).restore().tolist()
    [0.5, 0.5]
    """

    restore: Callable[[], Tensor]
    held: tuple[Tensor, ...]


class Packed(NamedTuple):
    """Stand-in that autograd keeps for a view of a registered tensor.

    >>> form = Compressed(lambda: torch.arange(4.0), ())
    >>> CompressedTensors.unpack(Packed(form, torch.Size([2]), (1,), offset=2)).tolist()
    [2.0, 3.0]
    """

    form: Compressed
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int


class CompressedTensors:
    """Compact forms of tensors that are alive, by the address of their storage.

    >>> tensors = CompressedTensors()
    >>> counts, code = torch.full((4,), 0.5), torch.ones(4, dtype=torch.uint8)
    >>> tensors.register(counts, Compressed(lambda: code * 0.5, (code,)))
    >>> tensors.unpack(tensors.pack(counts)).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    def __init__(self) -> None:
        self.entries: dict[int, tuple[weakref.ref, Compressed]] = {}

    def register(self, tensor: Tensor, form: Compressed) -> None:
        """Register a dense tensor."""
        if tensor.is_meta:  # all of them have the same address, and nothing to be kept
            return
        self.entries[tensor.untyped_storage().data_ptr()] = (weakref.ref(tensor), form)

    def find(self, tensor: Tensor) -> tuple[Tensor | None, Compressed | None]:
        """Find the registered tensor of the same storage, and its compact form; None for none."""
        alive, form = self.entries.get(tensor.untyped_storage().data_ptr(), (lambda: None, None))
        # An address may belong to another tensor by now: only a live original counts.
        original = alive()
        return (None, None) if original is None or tensor.dtype != original.dtype else (original, form)

    def form_of(self, tensor: Tensor) -> Compressed | None:
        """Return the compact form of this very tensor, which is not a part of another; None for none."""
        original, form = self.find(tensor)
        same = original is not None and tensor.shape == original.shape and tensor.stride() == original.stride()
        return form if same else None

    def pack(self, tensor: Tensor) -> Tensor | Packed:
        """Replace a tensor that autograd saves by its stand-in, if it has one."""
        original, form = self.find(tensor)
        if original is None:
            return tensor
        offset = tensor.storage_offset() - original.storage_offset()
        return Packed(form, tensor.shape, tensor.stride(), offset)

    @staticmethod
    def unpack(kept: Tensor | Packed) -> Tensor:
        """Restore the tensor that :meth:`pack` was given."""
        return kept if isinstance(kept, Tensor) else kept.form.restore().as_strided(*kept[1:])


class _Current(threading.local):
    """The tensors in use; each thread has its own, as it has its own hooks in autograd."""

    tensors: CompressedTensors | None = None


_current = _Current()


def is_compact() -> bool:
    """Return whether :func:`compact_saving` is on."""
    return _current.tensors is not None


@contextmanager
def _use(tensors: CompressedTensors | None) -> Iterator[None]:
    before, _current.tensors = _current.tensors, tensors
    try:
        yield
    finally:
        _current.tensors = before


@contextmanager
def compact_saving() -> Iterator[None]:
    """Let autograd keep, in the context, the forms given to :func:`register_product` and :func:`register_recompute`."""
    if is_compact() or not torch.is_grad_enabled() or is_compiling() or is_recording():
        yield
        return
    tensors = CompressedTensors()
    with _use(tensors), torch.autograd.graph.saved_tensors_hooks(tensors.pack, tensors.unpack):
        yield


def plain_saving():
    """Compress nothing within the context, for a second computation outside of the first context."""
    return _use(None)


def pack_nibbles(code: Tensor) -> Tensor:
    """Pack two values below 16 in each byte: dense bytes of any shape to half as many, flat, in memory order."""
    flat = code.as_strided((code.numel(),), (1,))
    half = (len(flat) + 1) // 2
    packed = flat[:half].clone()
    packed[: len(flat) - half] |= flat[half:] << 4
    return packed


def unpack_nibbles(
    packed: Tensor, shape: torch.Size, stride: tuple[int, ...], dtype: torch.dtype, mask: int = 0xF, shift: int = 0
) -> Tensor:
    """Unpack the values ``v`` that :func:`pack_nibbles` was given, as ``(v >> shift) & mask`` in a type of choice."""
    flat, half = packed.new_empty(math.prod(shape), dtype=dtype), len(packed)
    flat[:half].copy_(packed >> shift & mask if shift else packed & mask)
    flat[half:].copy_(packed[: len(flat) - half] >> 4 + shift & mask)
    return flat.as_strided(shape, stride)


def register(tensor: Tensor, restore: Callable[[], Tensor], held: tuple[Tensor, ...]) -> None:
    """Register a dense tensor as what ``restore()`` returns, which needs the tensors ``held``."""
    if is_compact():
        _current.tensors.register(tensor, Compressed(restore, held))


def register_product(
    tensor: Tensor,
    factor: float,
    code: Tensor,
    mask: int = 0xFF,
    unpack: Callable[[Tensor, torch.dtype], Tensor] | None = None,
) -> None:
    """Register ``tensor`` as ``(code & mask) * factor``, or ``unpack(code, dtype) * factor``, exactly.

    Args:
        tensor: a dense tensor, the result of this very product, or about to be.
        factor: the constant.
        code: bytes with the strides of ``tensor``, or what ``unpack`` makes a tensor like it of.
        mask: bits of a byte that count.
        unpack: takes ``code`` and the dtype of ``tensor``.
    """
    if not is_compact():
        return
    dtype = tensor.dtype

    def restore() -> Tensor:
        if unpack is not None:
            return unpack(code, dtype).mul_(factor)
        return (code if mask == 0xFF else code & mask).to(dtype).mul_(factor)

    _current.tensors.register(tensor, Compressed(restore, (code,)))


def register_recompute(tensor: Tensor, derive: Callable[[Tensor], Tensor], source: Tensor) -> None:
    """Register ``tensor`` as ``derive(source)``, where ``source``, or its compact form, is kept anyway.

    As in autograd itself, it is an error to change the source in place before the backward pass.
    """
    if not is_compact():
        return
    form = _current.tensors.form_of(source)
    if form is None:
        kept, version = source.detach(), source._version

        def restore_source() -> Tensor:
            if kept._version != version:
                raise RuntimeError('a tensor that the gradient needs was modified in place before the backward pass')
            return kept

        form = Compressed(restore_source, (kept,))

    @torch.no_grad()
    def restore() -> Tensor:
        return derive(form.restore())

    _current.tensors.register(tensor, Compressed(restore, form.held))
