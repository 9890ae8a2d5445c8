"""Capture of calls as CUDA graphs, and the check that nothing in a call waits for the device, which capture forbids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qsdt_mm.errors import one_line
from qsdt_mm.ops.holding import holding

WARM_UP = 2
"""Passes before a capture: kernels are compiled and tried, and workspaces allocated."""
COPIES = {'copy_', '_to_copy', '_copy_from'}
WAITING = {'nms', 'batched_nms', 'is_pinned', '_pin_memory'}
BY_INDEX = {'index', 'index_put', 'index_put_', '_index_put_impl_', '_unsafe_index'}


class CannotCaptureError(RuntimeError):
    """A call does what no graph can hold.

    >>> try:
    ...     with NothingWaits(torch.device('cpu')):
    ...         torch.ones(3).sum().item()
    ... except CannotCaptureError as error:
    ...     print(error)
    _local_scalar_dense waits for the device
    """


class NothingWaits(TorchDispatchMode):
    """Refuse operators that wait for a device: values read, sizes that depend on values, copies from and to the host.

    Args:
        device: of which tensors are looked at.

    Raises:
        CannotCaptureError: there is one.

    >>> with NothingWaits(torch.device('cpu')):
    ...     torch.ones(3).sum().shape
    torch.Size([])
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.kind = torch.device(device).type

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.rpartition('::')[2]
        there = self.kinds(args) | self.kinds(kwargs)
        if self.kind in there and waits(func, name, args):
            raise CannotCaptureError(f'{name} waits for the device')
        out = func(*args, **kwargs)
        if name in COPIES and self.kind in (found := there | self.kinds(out)) and len(found) > 1:
            raise CannotCaptureError(f'{name} goes between {" and ".join(sorted(found))}')
        return out

    @staticmethod
    def kinds(values: Any) -> set[str]:
        """Return the types of the devices of tensors."""
        return {value.device.type for value in tree_leaves(values) if isinstance(value, Tensor)}


def waits(func: Any, name: str, args: tuple) -> bool:
    """Return whether an operator reads values on the host, if only for the size of its result."""
    if name in BY_INDEX:  # by numbers it does not
        return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    tags = func.tags
    return name in WAITING or torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags


class Captured:
    """A captured call: its inputs and outputs, which replays read and write, and what else its kernels read.

    Args:
        graph: what replays it.
        inputs: tensors that it reads.
        outputs: nested, what it has returned.
        held: tensors that have to live as long as it does.

    >>> Captured(graph=None, inputs=[torch.ones(2)], outputs=(), held=[]).inputs
    [tensor([1., 1.])]
    """

    def __init__(self, graph: Any, inputs: list[Tensor], outputs: Any, held: list[Tensor]) -> None:
        self.graph, self.inputs, self.outputs, self.held = graph, inputs, outputs, held


class CudaRecorder:
    """CUDA graphs of one network on one device. They share their memory: each is replayed and copied from in one go.

    Args:
        device: a CUDA device.

    >>> recorder = CudaRecorder(torch.device('cuda')) if torch.cuda.is_available() else None
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(device)
        self.done: torch.cuda.Event | None = None

    def is_free(self) -> bool:
        """Return whether a graph can be captured or replayed now, and not only be part of another."""
        return not torch.cuda.is_current_stream_capturing()

    def capture(self, run: Callable[[], Any], inputs: list[Tensor]) -> Captured:
        """Capture a call that reads ``inputs`` and nothing else that changes, after passes that warm up.

        Raises:
            CannotCaptureError: it cannot be captured.
        """
        with torch.cuda.device(self.device):
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UP):
                    run()
                with NothingWaits(self.device):  # a capture that fails may leave the device's memory in disorder
                    run()
            torch.cuda.current_stream().wait_stream(self.stream)
            graph = torch.cuda.CUDAGraph()
            # Of other threads, such as loaders of data, only their own captures fail.
            memory = dict(pool=self.pool, stream=self.stream, capture_error_mode='thread_local')
            try:
                with holding() as held, torch.cuda.graph(graph, **memory):
                    outputs = run()
            except RuntimeError as error:
                raise CannotCaptureError(one_line(error)) from error
        return Captured(graph, inputs, outputs, held)

    def replay(self, captured: Captured, inputs: list[Tensor], take: Callable[[Any], Any]) -> Any:
        """Run a captured call on inputs, and return what ``take`` makes of its outputs.

        Calls from several streams wait for each other, on the device.
        """
        with torch.cuda.device(self.device):
            stream = torch.cuda.current_stream()
            if self.done is None:
                self.done = torch.cuda.Event()
            else:
                stream.wait_event(self.done)
            for own, given in zip(captured.inputs, inputs):
                own.copy_(given, non_blocking=True)
            captured.graph.replay()
            taken = take(captured.outputs)
            self.done.record(stream)
        return taken

    def wait(self) -> None:
        """Wait until all replays are over, before one's memory is given back."""
        if self.done is not None:
            self.done.synchronize()


def recorder_for(device: torch.device) -> CudaRecorder | None:
    """Return what captures calls on a device; None where nothing can."""
    return CudaRecorder(device) if device.type == 'cuda' and torch.version.cuda else None
