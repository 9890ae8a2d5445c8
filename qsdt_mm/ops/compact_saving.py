"""Compact storage of tensors for the backward pass: spikes as bytes, nothing that can be derived.

Spikes are small integers times a constant; what reads them saves them for its gradient as floats, as it does low-bit
weights. While :func:`compact_saving` is on, neurons, quantizers and chains say which of their outputs can be
restored from less, and autograd keeps that instead. The restored tensors equal the saved ones, bit for bit. In a
backward pass all layers that read a tensor get the same restored one.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from qsdt_mm.compat.compiling import is_compiling
from qsdt_mm.compat.renamed import refuse_old_names
from qsdt_mm.compat.tracing import is_recording

__getattr__ = refuse_old_names(__name__, 'Ledger', 'ShortForm', 'halve', 'note_derived', 'note_product', 'unhalve')

FEWEST_PIXELS = 2**14
"""Pixels in a batch from which a CPU saves compactly: sixteen images of 32 x 32."""


class Compressed:
    """Compact form of a tensor.

    Args:
        restore: makes the tensor again, with the strides that it had.
        held: the tensors that ``restore`` needs.
        version: of the tensor, by torch's count of what is written to it; None for any.

    >>> code = torch.ones(2, dtype=torch.uint8)
    >>> Compressed(restore=lambda: code * 0.5, held=(code,)).restore().tolist()
    [0.5, 0.5]
    """

    def __init__(self, restore: Callable[[], Tensor], held: tuple[Tensor, ...], version: int | None = None) -> None:
        self.restore, self.held, self.version = restore, held, version
        self.readers = 0  # how often autograd keeps this form
        self._shared: _Shared | None = None

    def holds(self, tensor: Tensor) -> bool:
        """Return whether nobody, such as a hook, has written to the tensor since."""
        return self.version is None or self.version == tensor._version

    def read(self) -> Tensor:
        """Return the tensor: in one backward pass the same one to all readers, let go with the last of them."""
        backward = torch._C._current_graph_task_id()  # -1 outside
        if self.readers < 2 or backward < 0:
            return self.restore()
        shared = self._shared
        if shared is None or shared.backward != backward:
            shared = _Shared(backward, self.restore(), stream_of(self.held), self.readers)
            # A part of the graph may not be run this time, and have readers.
            form = weakref.ref(self)
            torch.autograd.Variable._execution_engine.queue_callback(lambda: form() and form()._forget(backward))
        elif shared.stream != stream_of(self.held):  # whose work need not be done yet
            return self.restore()
        self._shared = shared._replace(left=shared.left - 1) if shared.left > 1 else None
        return shared.tensor

    def _forget(self, backward: int) -> None:
        if self._shared is not None and self._shared.backward == backward:
            self._shared = None


class _Shared(NamedTuple):
    """What was restored in a backward pass, on which stream, and how many readers there are to come."""

    backward: int
    tensor: Tensor
    stream: int | None
    left: int


def stream_of(tensors: tuple[Tensor, ...]) -> int | None:
    """Return the stream in use on the CUDA device of tensors, None elsewhere."""
    device = tensors[0].device if tensors else None
    return torch.cuda.current_stream(device).cuda_stream if device is not None and device.type == 'cuda' else None


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


def memory_of(tensor: Tensor) -> int | None:
    """Return what a tensor and its views, while one of them is alive, share with no other: the identity of its memory.

    It is the storage object's, not the address of the data: frameworks free data of tensors that are alive
    (``fully_shard``) and share it between others until one is written to. None for tensors that have no memory of
    their own: wrappers around others (``DTensor``), sparse ones, those of ``torch.func``.
    """
    if tensor.layout is not torch.strided or is_traceable_wrapper_subclass(tensor):
        return None
    try:
        return tensor.untyped_storage()._cdata
    except NotImplementedError:  # torch.func's
        return None


class CompressedTensors:
    """Compact forms of tensors that are alive, by the identity of their memory.

    >>> tensors = CompressedTensors()
    >>> counts, code = torch.full((4,), 0.5), torch.ones(4, dtype=torch.uint8)
    >>> tensors.register(counts, Compressed(lambda: code * 0.5, (code,)))
    >>> tensors.unpack(tensors.pack(counts)).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    def __init__(self) -> None:
        self.entries: dict[int, tuple[weakref.ref, Compressed]] = {}

    def register(self, tensor: Tensor, form: Compressed) -> None:
        """Register a dense tensor; one without memory of its own is not."""
        memory = None if tensor.is_meta else memory_of(tensor)  # nothing is kept on the meta device
        if memory is not None:
            self.entries[memory] = (weakref.ref(tensor), form)

    def find(self, tensor: Tensor) -> tuple[Tensor | None, Compressed | None]:
        """Find the registered tensor of the same storage, and its compact form; None for none."""
        memory = memory_of(tensor)
        alive, form = self.entries.get(memory, (lambda: None, None))
        # The storage may be another one, made where the old one was: only a live original, on this one, counts.
        original = alive()
        found = original is not None and tensor.dtype == original.dtype and memory_of(original) == memory
        return (original, form) if found else (None, None)

    def form_of(self, tensor: Tensor) -> Compressed | None:
        """Return the compact form of this very tensor, which is not a part of another; None for none."""
        original, form = self.find(tensor)
        if original is None or not form.holds(original):
            return None
        return form if tensor.shape == original.shape and tensor.stride() == original.stride() else None

    def pack(self, tensor: Tensor) -> Tensor | Packed:
        """Replace a tensor that autograd saves by its stand-in, if it has one."""
        original, form = self.find(tensor)
        if original is None or not form.holds(original):
            return tensor
        form.readers += 1
        offset = tensor.storage_offset() - original.storage_offset()
        return Packed(form, tensor.shape, tensor.stride(), offset)

    @staticmethod
    def unpack(kept: Tensor | Packed) -> Tensor:
        """Restore the tensor that :meth:`pack` was given."""
        return kept if isinstance(kept, Tensor) else kept.form.read().as_strided(*kept[1:])


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


def is_worth_compact_saving(image: Tensor, wanted: bool | None = None) -> bool:
    """Return whether networks save compactly for images ``(..., C, H, W)``, by what their user wants, if anything.

    Never for wrappers around tensors (``DTensor``), of which the wrappers are kept; unless it is wanted, not on a CPU
    for so few pixels that book-keeping takes longer than the memory is worth.
    """
    if wanted is None:
        wanted = image.device.type != 'cpu' or image.numel() >= FEWEST_PIXELS * image.shape[-3]
    return wanted and memory_of(image) is not None


def plain_saving():
    """Compress nothing within the context, for a second computation outside of the first context."""
    return _use(None)


def pack_nibbles(code: Tensor) -> Tensor:
    """Pack two values below 16 in each byte: dense bytes of any shape to half as many, flat, in memory order."""
    flat = code.as_strided((code.numel(),), (1,))
    half = (len(flat) + 1) // 2
    lower, upper = flat[:half], flat[half:]
    if len(upper) == half:
        return torch.add(lower, upper, alpha=16)
    packed = lower.clone()
    packed[:-1].add_(upper, alpha=16)
    return packed


def unpack_nibbles(
    packed: Tensor, shape: torch.Size, stride: tuple[int, ...], dtype: torch.dtype, mask: int = 0xF, shift: int = 0
) -> Tensor:
    """Unpack the values ``v`` that :func:`pack_nibbles` was given, as ``(v >> shift) & mask`` in a type of choice."""
    return unpack_into(packed.new_empty_strided(shape, stride, dtype=dtype), packed, mask, shift)


def unpack_into(out: Tensor, packed: Tensor, mask: int = 0xF, shift: int = 0) -> Tensor:
    """Write :func:`unpack_nibbles` into a dense tensor of the strides that the values had."""
    flat, half = out.as_strided((out.numel(),), (1,)), len(packed)
    highest = 0xF >> shift
    mask &= highest
    flat[:half].copy_(packed >> shift & mask if shift else packed & mask)
    upper = packed[: len(flat) - half] >> 4 + shift
    flat[half:].copy_(upper if mask == highest else upper & mask)
    return out


def register(tensor: Tensor, restore: Callable[[], Tensor], held: tuple[Tensor, ...]) -> None:
    """Register a dense tensor that ``restore`` makes again from ``held``, exactly and with the same strides.

    If it is written to later, before autograd saves it, it is saved as it is then.
    """
    if is_compact():
        _current.tensors.register(tensor, Compressed(restore, held, tensor._version))


def register_product(tensor: Tensor, factor: float, code: Tensor, mask: int = 0xFF) -> None:
    """Register ``tensor`` as ``(code & mask) * factor``, exactly.

    Args:
        tensor: a dense tensor, the result of this very product.
        factor: the constant.
        code: bytes with the strides of ``tensor``.
        mask: bits of a byte that count.
    """
    dtype = tensor.dtype

    def restore() -> Tensor:
        return (code if mask == 0xFF else code & mask).to(dtype).mul_(factor)

    register(tensor, restore, (code,))


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

    register(tensor, restore, form.held)
