"""Capture of calls as CUDA graphs, and the check that nothing in a call waits for the device, which capture forbids."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

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


class Ticket:
    """Stands for a forward pass; as long as it lives unused, its backward pass may come.

    >>> Ticket().used
    False
    """

    used = False


class CapturedStep(Captured):
    """A captured forward and backward pass.

    Args:
        graph: what replays the forward pass.
        inputs: tensors that it reads.
        outputs: nested, what it has returned.
        held: tensors that have to live as long as it does.
        backward: what replays the backward pass; None without gradients.
        grads: gradients of those outputs that have one, which it reads.
        found: gradients of inputs and parameters, in order, which it writes; None for those that have none.

    >>> step = CapturedStep(None, [], (torch.ones(2),), [], None, [], [])
    >>> ticket = step.take_ticket()
    >>> step.is_pending(), step.use_ticket(ticket), step.is_pending()
    (True, None, False)
    """

    def __init__(
        self,
        graph: Any,
        inputs: list[Tensor],
        outputs: Any,
        held: list[Tensor],
        backward: Any,
        grads: list[Tensor],
        found: list[Tensor | None],
    ) -> None:
        learned = {id(end) for end in differentiable(outputs)}
        given = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
        self.learned = [id(tensor) in learned for tensor in given]
        # Without the nodes of autograd: those of parameters would go on adding gradients in the capture's stream.
        super().__init__(graph, inputs, tree_map_only(Tensor, Tensor.detach, outputs), held)
        self.backward, self.grads, self.found = backward, grads, found
        self.tensors = [leaf for leaf in tree_leaves(self.outputs) if isinstance(leaf, Tensor)]
        self.last: Callable[[], Ticket | None] = lambda: None

    def take_ticket(self) -> Ticket:
        """Note a forward pass; what it has kept is gone with the next."""
        ticket = Ticket()
        self.last = weakref.ref(ticket)
        return ticket

    def is_pending(self) -> bool:
        """Return whether the backward pass of the last forward pass may yet come."""
        ticket = self.last()
        return ticket is not None and not ticket.used

    def use_ticket(self, ticket: Ticket) -> None:
        """Note a backward pass.

        Raises:
            RuntimeError: another forward pass has overwritten what it needs.
        """
        if self.last() is not ticket:
            raise RuntimeError('a second backward pass came after another forward pass: CUDA graphs keep one at a time')
        ticket.used = True


def gradients(outputs: Any, sources: Sequence[Tensor], grads: Sequence[Tensor] | None = None) -> list[Tensor | None]:
    """Compute gradients of sources, None for those that have none, from gradients of outputs, or from any."""
    ends = differentiable(outputs)
    wanted = [tensor for tensor in sources if tensor.requires_grad]
    if not ends or not wanted:
        return [None] * len(sources)
    grads = [*map(torch.zeros_like, ends)] if grads is None else grads
    found = iter(torch.autograd.grad(ends, wanted, grads, allow_unused=True))
    return [next(found) if tensor.requires_grad else None for tensor in sources]


def differentiable(outputs: Any) -> list[Tensor]:
    """Return the tensors that have gradients."""
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.requires_grad]


@torch.no_grad()
def fill(own: Sequence[Tensor], given: Sequence[Tensor | None]) -> None:
    """Copy tensors into those that a graph reads; None is zero."""
    for mine, other in zip(own, given):
        mine.zero_() if other is None else mine.copy_(other, non_blocking=True)


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
                # A capture that fails may leave the device's memory in disorder.
                with holding(), NothingWaits(self.device):
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

    def capture_step(self, run: Callable[[], Any], inputs: list[Tensor], parameters: Sequence[Tensor]) -> CapturedStep:
        """Capture a forward pass that reads ``inputs`` and parameters, and its backward pass.

        Its memory is its own, for what the forward pass keeps has to stay until the other.

        Raises:
            CannotCaptureError: it cannot be captured.
        """
        sources = [*inputs, *parameters]
        with torch.cuda.device(self.device):
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UP):
                    gradients(run(), sources)
                with holding(), NothingWaits(self.device):
                    gradients(run(), sources)
            torch.cuda.current_stream().wait_stream(self.stream)
            forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            pool = torch.cuda.graph_pool_handle()
            memory = dict(pool=pool, stream=self.stream, capture_error_mode='thread_local')
            try:
                with holding() as held:
                    with torch.cuda.graph(forward, **memory):
                        outputs = run()
                    grads = [torch.zeros_like(end) for end in differentiable(outputs)]
                    with torch.cuda.graph(backward, **memory):
                        found = gradients(outputs, sources, grads)
            except RuntimeError as error:
                raise CannotCaptureError(one_line(error)) from error
        return CapturedStep(forward, inputs, outputs, held, backward, grads, found)

    def replay_backward(self, captured: CapturedStep, grads: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Run a captured backward pass on gradients of outputs, None for zero, and return what it has found."""
        with torch.cuda.device(self.device):
            fill(captured.grads, grads)
            captured.backward.replay()
            self.done.record(torch.cuda.current_stream())
        return captured.found

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
            fill(captured.inputs, inputs)
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
