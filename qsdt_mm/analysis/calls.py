"""Operator calls and bytes of a training step as on a GPU, counted without one."""

from __future__ import annotations

import bisect
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qsdt_mm.models.neurons import functional
from qsdt_mm.ops import compact_saving, dispatch, layout
from qsdt_mm.ops.spiking import INSIDE

from .timing import synchronize, tensors_in

PHASES = ('forward', 'backward')
COLUMNS = ('phase', 'module', 'function', 'operator')

# Make a tensor without values, or look at one: nothing is launched.
NO_LAUNCH = {
    'empty',
    'empty_like',
    'empty_strided',
    'new_empty',
    'new_empty_strided',
    'detach',
    'detach_',
    'alias',
    '_unsafe_view',
    '_reshape_alias',
    'lift_fresh',
    'resize_',
    'set_',
    '_local_scalar_dense',
    'is_same_size',
    'sym_size',
    'sym_numel',
    'sym_stride',
    'record_stream',
}
# Write their first argument without reading it.
OVERWRITE = {'copy_', 'fill_', 'zero_', 'normal_', 'uniform_', 'bernoulli_'}
# As CUDA's two interfaces call it.
LAUNCH = re.compile('cu(da)?LaunchKernel')


@dataclass(frozen=True)
class CallRow:
    """Calls of one operator from one place.

    Args:
        phase: 'forward' or 'backward'.
        module: kind of the innermost module that was called; in the backward pass of the one whose gradient it is.
        function: innermost function of this package, else the node of autograd.
        operator: an ATen operator, or 'triton.' and the name of a kernel.
        calls: how often.
        bytes: read and written.

    >>> CallRow('backward', 'Linear', '', 'mm', calls=1, bytes=80).operator
    'mm'
    """

    phase: str
    module: str
    function: str
    operator: str
    calls: int
    bytes: int


@dataclass(frozen=True)
class CallCounts:
    """Calls of one training step.

    >>> counts = CallCounts((CallRow('forward', 'Linear', '', 'addmm', calls=2, bytes=80),))
    >>> counts.calls(), counts.bytes('backward'), counts.by('operator')
    (2, 0, [('addmm', 2, 80)])
    """

    rows: tuple[CallRow, ...]

    def calls(self, phase: str | None = None) -> int:
        """Count the calls of a phase, or of all."""
        return sum(row.calls for row in self.rows if phase in (None, row.phase))

    def bytes(self, phase: str | None = None) -> int:
        """Count the bytes that a phase, or all, read and write."""
        return sum(row.bytes for row in self.rows if phase in (None, row.phase))

    def by(self, column: str) -> list[tuple[str, int, int]]:
        """Sum by 'phase', 'module', 'function' or 'operator': ``(name, calls, bytes)``, the most calls first."""
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for row in self.rows:
            entry = sums[getattr(row, column)]
            entry[0] += row.calls
            entry[1] += row.bytes
        return sorted(((name, *entry) for name, entry in sums.items()), key=lambda entry: -entry[1])

    def as_dict(self) -> dict[str, Any]:
        """Return totals, sums by each column, and all rows, for a JSON file."""
        return dict(
            calls=self.calls(),
            bytes=self.bytes(),
            **{
                f'by_{column}': {name: dict(calls=n, bytes=size) for name, n, size in self.by(column)}
                for column in COLUMNS
            },
            rows=[vars(row) for row in self.rows],
        )


def memory_of(values: Any) -> int:
    """Count the bytes that tensors, nested or not, occupy; what is expanded lies in memory once."""
    size = 0
    for tensor in tensors_in(values):
        places = tensor.element_size() if tensor.numel() else 0
        for length, stride in zip(tensor.shape, tensor.stride()):
            places *= length if stride else 1
        size += places
    return size


def traffic(func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> int:
    """Count the bytes that an operator reads and writes."""
    name = func._schema.name.rpartition('::')[2]
    if name == 'convolution_backward':
        grad, x, weight, *_, (of_x, of_weight, _) = args
        args = grad, *[weight] * of_x, *[x] * of_weight  # the gradient of one needs the other
    read = [args[1:] if name in OVERWRITE else args, {k: v for k, v in kwargs.items() if k != 'out'}]
    in_place = [
        args[i]
        for i, argument in enumerate(func._schema.arguments[: len(args)])
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return memory_of(read) + memory_of(in_place or out)


def is_view(func: Any) -> bool:
    """Return whether an operator only looks at its argument in another way."""
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def kind_of(module: nn.Module) -> str:
    """Name the kind of a module; of a convolution with its kernel, for the kinds differ in cost."""
    kind = type(module).__name__
    if isinstance(module, nn.modules.conv._ConvNd):
        kind = f'{kind} {"depthwise " * (module.groups > 1)}{"x".join(map(str, module.kernel_size))}'
    return kind


class CallCounter(TorchDispatchMode):
    """Count operators by phase, module, function; on a CPU, where the backward pass runs in the thread that asks.

    Modules are found without hooks, for which fast paths would step aside: forward by their calls, backward by the
    numbers that autograd gives its nodes in turn.

    >>> with CallCounter() as counter:
    ...     _ = torch.ones(2).add(1).view(2, 1)
    >>> [(row.operator, row.calls, row.bytes) for row in counter.counts().rows]
    [('ones', 1, 8), ('add', 1, 16)]
    """

    def __init__(self) -> None:
        super().__init__()
        self.phase = PHASES[0]
        self.sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
        self.muted = 0
        self.modules: list[str] = []  # those that are being called
        self.numbers: list[int] = []  # of autograd's nodes, at which the module changes
        self.owners: list[str] = []

    def counts(self) -> CallCounts:
        """Return what has been counted."""
        return CallCounts(tuple(CallRow(*key, *entry) for key, entry in self.sums.items()))

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._schema.name.rpartition('::')[2]
        if not self.muted and not is_view(func) and name not in NO_LAUNCH:
            self.record(name, traffic(func, args, kwargs, out))
        return out

    def record(self, operator: str, size: int, calls: int = 1) -> None:
        """Count calls of an operator where the program is."""
        entry = self.sums[self.phase, self.owner(), self.function(), operator]
        entry[0] += calls
        entry[1] += size

    def owner(self) -> str:
        """Name the kind of module that the program is in."""
        if self.modules:
            return self.modules[-1]
        node = torch._C._current_autograd_node() if self.phase == 'backward' else None
        if node is None or 'AccumulateGrad' in node.name():
            return ''
        place = bisect.bisect_right(self.numbers, node._sequence_nr()) - 1
        return self.owners[place] if place >= 0 else ''

    def function(self) -> str:
        """Name the innermost function of this package that the program is in, or autograd's node."""
        frame = sys._getframe(2)
        while frame is not None and frame.f_code is not count_calls.__code__:
            module = frame.f_globals.get('__name__', '')
            if module.startswith('qsdt_mm.') and module != __name__:
                name = getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)  # 3.11 and later
                return f'{module.partition(".")[2]}:{name}'
            frame = frame.f_back
        node = torch._C._current_autograd_node() if self.phase == 'backward' else None
        return '' if node is None else node.name().rpartition('::')[2]

    @contextmanager
    def within(self, module: nn.Module) -> Iterator[None]:
        """Count what follows for a module."""
        self.modules.append(kind_of(module))
        self._note_owner()
        try:
            yield
        finally:
            self.modules.pop()
            self._note_owner()

    def _note_owner(self) -> None:
        if torch.is_grad_enabled():
            self.numbers.append(torch.autograd._get_sequence_nr())
            self.owners.append(self.modules[-1] if self.modules else '')

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Count nothing."""
        self.muted += 1
        try:
            yield
        finally:
            self.muted -= 1

    def launch(self, name: str, *args: Any) -> Any:
        """Run the plain twin of a kernel, which counts as the launches of the kernel."""
        twin = getattr(import_module(f'qsdt_mm.ops.{dispatch.PLAIN_MODULES[name]}'), name)
        with self.quiet():
            out = twin(*args)
        if not self.muted:
            read = [arg for arg in args if arg is not out]  # what a kernel is given to write into
            self.record(f'triton.{name}', memory_of([read, out]), dispatch.LAUNCHES.get(name, 1))
        return out

    @contextmanager
    def as_on_gpu(self) -> Iterator[None]:
        """Let networks compute as on a GPU within the context: kernels serve what they would serve there.

        Each is its plain twin, and counts as what it launches; feature maps keep the order in memory that they have.
        """

        def find(name: str, *tensors: Tensor) -> Callable | None:
            if not dispatch.takes(*tensors):
                return None
            if name == 'integrate_and_fire':
                return lambda *args: _AllSteps.apply(self, *args)
            return lambda *args: self.launch(name, *args)

        with (
            mock.patch.object(dispatch, 'find', find),
            mock.patch.object(layout, 'to_preferred_memory_format', lambda feature: feature),
            mock.patch.object(layout, 'is_faster_in_float32', lambda *args: False),
        ):
            yield


class _AllSteps(torch.autograd.Function):
    """A neuron over T steps as its kernel computes it: one launch, from one byte for each count another."""

    @staticmethod
    def forward(
        ctx,
        counter: CallCounter,
        inputs: Tensor,
        time_steps: int,
        threshold: float,
        max_spike_count: int,
        decay: float,
        scale: float,
        rounding: str,
    ) -> Tensor:
        ctx.counter = counter
        with counter.quiet(), compact_saving.plain_saving(), torch.enable_grad():
            source, carried, counts = inputs.detach().requires_grad_(), None, []
            for current in source.chunk(time_steps):
                count, carried = functional.integrate_and_fire_step(
                    current, carried, threshold, max_spike_count, decay, rounding
                )
                counts.append(count)
            count = torch.cat(counts)
            ctx.graph = source, count * scale
            code = count.detach().to(torch.uint8)
        spikes = ctx.graph[1].detach().clone()
        compact_saving.register_product(spikes, scale, code, INSIDE - 1)
        counter.record('triton.integrate_and_fire', memory_of([inputs, spikes, code]))
        return spikes

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Any, ...]:
        source, spikes = ctx.graph
        with ctx.counter.quiet(), torch.enable_grad():
            (result,) = torch.autograd.grad(spikes, source, grad)
        ctx.counter.record('triton.integrate_and_fire_backward', memory_of([grad, result]) + grad.numel())
        return None, result, *[None] * 6


def count_calls(
    model: nn.Module, run: Callable[[], Iterable[Tensor]], dtype: torch.dtype | None = torch.bfloat16, gpu: bool = True
) -> CallCounts:
    """Count operator calls and bytes of the second of two training steps, the optimizer's work left out.

    A call is one ATen operator that computes, or one launch of a Triton kernel; views and allocations are none.

    Args:
        model: on a CPU, in training; its gradients are those of the step afterwards.
        run: computes the network's outputs, whose mean squares are the loss.
        dtype: of autocast; None for none.
        gpu: as on a GPU (:meth:`CallCounter.as_on_gpu`), otherwise as on this CPU.
    """
    counter, call = CallCounter(), nn.Module.__call__

    def counted(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with counter.within(module):
            return call(module, *args, **kwargs)

    def step() -> None:
        model.zero_grad()
        counter.phase = PHASES[0]
        with torch.autocast('cpu', dtype, enabled=dtype is not None):
            outputs = run()
        loss = sum(out.float().square().mean() for out in outputs)
        counter.phase = PHASES[1]
        loss.backward()

    with ExitStack() as stack:
        if gpu:
            stack.enter_context(counter.as_on_gpu())
        with counter.quiet():
            step()  # what is prepared once does not count
        stack.enter_context(mock.patch.object(nn.Module, '__call__', counted))
        with counter:
            step()
    return counter.counts()


def count_launches(run: Callable[[], Any], device: torch.device) -> int:
    """Count what a GPU is made to launch by the second of two calls, with torch's profiler."""
    run()
    synchronize(device)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        run()
        synchronize(device)
    return sum(1 for event in profile.events() if LAUNCH.match(event.name))
