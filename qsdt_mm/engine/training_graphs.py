"""Training on a GPU with the launches of a part in two: CUDA graphs of its forward and of its backward pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

from qsdt_mm.compat.autocast import autocast_dtype
from qsdt_mm.compat.compiling import is_compiling
from qsdt_mm.compat.saved_tensors import can_tell_hooks, saved_tensors_hooks
from qsdt_mm.compat.tracing import is_recording
from qsdt_mm.errors import InputError
from qsdt_mm.inference import capturing
from qsdt_mm.inference.capturing import CapturedStep
from qsdt_mm.inference.graphs import CONSTANTS, State, can_replay, kind_of, parts_for_graphs, tell
from qsdt_mm.ops.layout import PLAIN


def graphed_training(model: nn.Module, max_graphs: int = 2) -> nn.Module:
    """Have the parts of a network replay CUDA graphs while they train on a GPU, in place, and return it.

    A GPU that is faster than Python can launch its work idles; two graphs for each part, forward and backward, are two
    launches. Inputs of a shape, dtype and precision that come a second time are captured. Parameters may change in
    place, and what is replaced is captured anew. Values and gradients are those without graphs.

    Passes run as before on a CPU (a line in the log says so, once), in evaluation, while hooks watch modules (as
    ``FiringRateHook`` does now and then), inside checkpoints of others, with a second call before the first one's
    backward pass, where a part waits for the device, and with norms that wait for other processes. Gradients cannot be
    differentiated again.

    Args:
        model: a network with a ``backbone``, of which backbone, neck and the heads that compute on whole maps are
            graphed each by itself; or a backbone.
        max_graphs: kept for each part, at most, each with the memory of a training step; other shapes run without. 0:
            take the graphs away.

    Raises:
        ValueError: ``max_graphs`` is negative.
        InputError: the backbone computes activations again (``with_cp``), or is compiled.

    >>> from qsdt_mm import SpikeDrivenTransformer
    >>> arch = dict(preset='qsd-8m', widths=(8, 8, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2)
    >>> network = graphed_training(SpikeDrivenTransformer(arch))
    >>> network.training
    True
    """
    parts = parts_for_graphs(model, max_graphs)
    for name, part in parts.items():
        if not max_graphs:
            if isinstance(part._compiled_call_impl, TrainingGraphs):
                part._compiled_call_impl = None
            continue
        if getattr(part, 'with_cp', False):
            raise InputError(f'CUDA graphs and model.{name}.with_cp=True exclude each other: leave one of them out')
        if part._compiled_call_impl is not None and not isinstance(part._compiled_call_impl, TrainingGraphs):
            raise InputError(f'{name} is compiled or has CUDA graphs of evaluation: leave one of them out')
    for name, part in parts.items() if max_graphs else ():
        part._compiled_call_impl = TrainingGraphs(name, part, max_graphs)  # copies leave this attribute out
    return model


class TrainingGraphs:
    """Call of a module: a pair of graphs for each kind of input in training, otherwise the module itself.

    Args:
        name: of the module, for messages.
        module: any.
        max_graphs: pairs kept at most.

    >>> len(TrainingGraphs('layer', nn.Linear(2, 1), max_graphs=1).graphs)
    0
    """

    def __init__(self, name: str, module: nn.Module, max_graphs: int) -> None:
        self.name, self.module, self.max_graphs = name, module, max_graphs
        self.graphs: dict[Any, CapturedStep] = {}
        self.seen: set[Any] = set()
        self.state: _TrainingState | None = None
        self.recorder: Any = None
        self.refused = False
        self.lock = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.module.training and torch.is_grad_enabled() and not self.refused:
            leaves, structure = tree_flatten((args, kwargs))
            inputs = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            if self.applies(leaves, inputs):
                with self.lock:
                    captured = self.find(repr(structure), leaves, args, kwargs)
                    if captured is not None:
                        return self.replay(captured, inputs)
        return self.module._call_impl(*args, **kwargs)

    def applies(self, leaves: Sequence[Any], inputs: Sequence[Tensor]) -> bool:
        """Return whether these inputs can be a graph's, and nobody wants to see what is computed."""
        devices = {tensor.device for tensor in inputs}
        if len(devices) != 1 or is_compiling() or is_recording():
            return False
        (device,) = devices
        if self.recorder is None or self.recorder.device != device:
            recorder = capturing.recorder_for(device)
            if recorder is None:
                tell(f'CUDA graphs need a GPU: training on {device.type} runs without them')
                return False
            self.forget()
            self.recorder = recorder
        if self.state is None or not self.state.holds():
            self.forget()
            self.state = _TrainingState(self.module)
        return (
            can_replay(self.recorder, self.state, leaves)
            and not torch.is_anomaly_enabled()
            and not (can_tell_hooks() and saved_tensors_hooks())
            and not self.state.waits_for_others()
        )

    def find(self, structure: str, leaves: Sequence[Any], args: tuple, kwargs: dict[str, Any]) -> CapturedStep | None:
        """Return the graphs for such inputs; None if there are to be none now."""
        precision = autocast_dtype(self.recorder.device)
        wanted = [leaf.requires_grad for leaf in leaves if isinstance(leaf, Tensor)]
        key = structure, *map(kind_of, leaves), *wanted, precision, *self.state.modes()
        captured = self.graphs.get(key)
        if captured is not None:
            return None if captured.is_pending() else captured
        if len(self.graphs) >= self.max_graphs:
            return None
        if key not in self.seen:
            self.seen.add(key)
            return None
        try:
            captured = self.graphs[key] = self.capture(args, kwargs, precision)
        except capturing.CannotCaptureError as error:
            self.refused = True
            tell(f'{self.name} trains without CUDA graphs: {error}')
        return captured

    def capture(self, args: tuple, kwargs: dict[str, Any], precision: torch.dtype | None) -> CapturedStep:
        """Capture both passes with inputs like these; statistics and random numbers are as if nothing had run."""
        device = self.recorder.device

        def own(tensor: Tensor) -> Tensor:
            return torch.empty_like(tensor).copy_(tensor).detach().requires_grad_(tensor.requires_grad)

        own_args, own_kwargs = tree_map_only(Tensor, own, (args, kwargs))
        inputs = [leaf for leaf in tree_flatten((own_args, own_kwargs))[0] if isinstance(leaf, Tensor)]
        # What a cache of casts holds would be gone when the graph reads it.
        cast = torch.autocast(device.type, precision, enabled=precision is not None, cache_enabled=False)

        def run() -> Any:
            with cast:
                return self.module._call_impl(*own_args, **own_kwargs)

        buffers = [*self.module.buffers()]
        before = [buffer.clone() for buffer in buffers]
        devices = [device] if device.type == 'cuda' else []
        try:
            # Backward passes run outside of autocast.
            with torch.random.fork_rng(devices), torch.autocast(device.type, enabled=False):
                captured = self.recorder.capture_step(run, inputs, self.state.parameters)
        finally:
            with torch.no_grad():
                for buffer, value in zip(buffers, before):
                    buffer.copy_(value)
        for leaf in tree_flatten(captured.outputs)[0]:
            if type(leaf) not in PLAIN and not isinstance(leaf, CONSTANTS):
                raise capturing.CannotCaptureError(f'its result has a {type(leaf).__name__}')
        return captured

    def replay(self, captured: CapturedStep, inputs: Sequence[Tensor]) -> Any:
        """Return what the module would, from the graph; gradients will come from the other graph."""
        found = _Replayed.apply(self.recorder, captured, len(inputs), *inputs, *self.state.parameters)
        taken = iter(found)
        return tree_map(lambda leaf: next(taken) if isinstance(leaf, Tensor) else leaf, captured.outputs)

    def forget(self) -> None:
        """Give all graphs back."""
        if self.graphs:
            self.recorder.wait()
        self.graphs.clear()
        self.seen.clear()


class _TrainingState(State):
    """All that graphs of training depend on beside inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.parameters = [*network.parameters()]
        self.backward_hooks = [hooks for m in self.modules for hooks in (m._backward_pre_hooks, m._backward_hooks)]
        self.synchronised = [module for module in self.modules if isinstance(module, SyncBatchNorm)]

    def is_watched(self) -> bool:
        return any(self.backward_hooks) or super().is_watched()

    def waits_for_others(self) -> bool:
        """Return whether norms exchange statistics with other processes."""
        return bool(self.synchronised) and torch.distributed.is_available() and torch.distributed.is_initialized()

    def modes(self) -> list[bool]:
        """Return which modules train, and which parameters."""
        return [*map(attrgetter('training'), self.modules), *map(attrgetter('requires_grad'), self.parameters)]


class _Replayed(torch.autograd.Function):
    """A captured step as one node: two launches."""

    @staticmethod
    def forward(ctx, recorder: Any, captured: CapturedStep, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.recorder, ctx.captured, ctx.parameters = recorder, captured, tensors[count:]
        outputs = recorder.replay(captured, tensors[:count], lambda found: copies(captured.tensors))
        ctx.ticket = captured.take_ticket()
        fixed = [out for out, learned in zip(outputs, captured.learned) if not learned]
        ctx.mark_non_differentiable(*fixed)
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        captured = ctx.captured
        captured.use_ticket(ctx.ticket)
        # A gradient may have been taken as it is by its parameter, which then keeps it from step to step.
        for parameter, found in zip(ctx.parameters, captured.found[len(captured.found) - len(ctx.parameters) :]):
            kept = parameter.grad
            if found is not None and kept is not None and kept.data_ptr() == found.data_ptr():
                parameter.grad = kept.clone()
        of_outputs = [grad for grad, learned in zip(grads, captured.learned) if learned]
        found = ctx.recorder.replay_backward(captured, of_outputs)
        return None, None, None, *(None if grad is None else grad.detach() for grad in found)


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies, without gradients."""
    return [tensor.detach().clone() for tensor in tensors]
