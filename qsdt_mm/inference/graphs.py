"""Evaluation on a GPU with all its launches in one: CUDA graphs behind the calls of a network."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils import _python_dispatch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_map_only

from qsdt_mm.compat.autocast import autocast_dtype
from qsdt_mm.compat.compiling import is_compiling
from qsdt_mm.compat.tracing import is_recording
from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import require
from qsdt_mm.models.layers.norm_counters import has_hooks
from qsdt_mm.models.layers.spiking import in_preferred_memory_format
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.ops.layout import PLAIN

from . import capturing
from .capturing import Captured, CudaRecorder

PARTS = ('backbone', 'neck', 'head', 'rpn_head', 'bbox_head')
"""Parts of the task libraries' models that map tensors to tensors, of sizes that depend on the image's alone."""
CONSTANTS = (type(None), bool, int, float, str, torch.dtype, torch.device)
_told: set[str] = set()


def graphed(model: nn.Module, max_graphs: int = 8) -> nn.Module:
    """Have a network in evaluation mode replay CUDA graphs on a GPU, in place, and return it.

    A small batch leaves a GPU idle between hundreds of launches; a graph is one. The first call with inputs of a new
    shape, dtype, memory format or autocast captures one; it is captured anew when weights, modules or constants of
    neurons have been replaced. Weights that change in place are seen as they are. Names and state dicts stay, copies
    (such as ``convert`` and ``fold_norms`` return) are without graphs: convert first.

    Calls compute without gradients, and what they return is the caller's own. They run as before on a CPU (a line in
    the log says so, once), while hooks watch modules, and where a part waits for the device in between.

    Args:
        model: a backbone or another network from tensors to tensors; of a classifier, detector or segmenter (anything
            with a ``backbone``) backbone, neck and the heads that compute on whole maps replay, everything else runs
            as before. Trained, folded, integer or spike form.
        max_graphs: kept for each part, at most. When there are so many, a shape that comes twice in a row replaces the
            one whose last call is longest ago. 0: take the graphs away.

    Raises:
        ValueError: an argument is out of range, or the network is in training mode, now or when it is called.

    >>> from qsdt_mm import SpikeDrivenTransformer
    >>> arch = dict(preset='qsd-8m', widths=(8, 8, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2)
    >>> network = graphed(SpikeDrivenTransformer(arch).eval())
    >>> network.training
    False
    """
    parts = parts_for_graphs(model, max_graphs)
    if max_graphs:
        for name, part in parts.items():
            require_evaluation(name, part.modules())
    for name, part in parts.items():
        if max_graphs:
            part._compiled_call_impl = Graphs(
                name, part, max_graphs
            )  # of all attributes, the one that copies leave out
        elif isinstance(part._compiled_call_impl, Graphs):
            part._compiled_call_impl = None
    return model


def parts_for_graphs(model: nn.Module, max_graphs: int) -> dict[str, nn.Module]:
    """Return the modules whose calls graphs can take the place of, by name; the network itself without a backbone.

    Raises:
        ValueError: ``max_graphs`` is no number of graphs.
    """
    whole = isinstance(max_graphs, int) and not isinstance(max_graphs, bool)
    require(whole and max_graphs >= 0, 'max_graphs', max_graphs, 'an integer >= 0')
    network = unwrap(model)
    named = {name: getattr(network, name, None) for name in PARTS}
    if not isinstance(named['backbone'], nn.Module):
        named = {type(network).__name__: network}
    return {name: part for name, part in named.items() if isinstance(part, nn.Module)}


def require_evaluation(name: str, modules: Any) -> None:
    """Raise ``ValueError`` if a module is in training mode."""
    training = any(map(attrgetter('training'), modules))
    require(not training, f'{name}.training', training, 'False, as eval() sets it, for CUDA graphs')


class State:
    """All that graphs depend on beside inputs: modules and hooks, weights where they lie, constants of neurons.

    Args:
        network: any module.

    >>> layer = nn.Linear(2, 2)
    >>> state = State(layer)
    >>> state.holds(), layer.double() is layer, state.holds()
    (True, True, False)
    """

    def __init__(self, network: nn.Module) -> None:
        self.modules = [*network.modules()]
        registers = [(m._parameters, m._buffers, m._modules) for m in self.modules]
        self.registers = [*chain.from_iterable(registers)]
        self.members = self._members()
        tensors = [member for member in self.members if isinstance(member, Tensor)]
        self.plain = [tensor for tensor in tensors if type(tensor) in PLAIN]  # others may have no memory of their own
        self.devices = {tensor.device if type(tensor) in PLAIN else None for tensor in tensors}
        self.addresses = self._addresses()
        self.storages = [tensor.untyped_storage() for tensor in self.plain]  # graphs may read them once too often
        hooks = [(m._forward_pre_hooks, m._forward_hooks) for m in self.modules]
        self.hooks = [*chain.from_iterable(hooks)]
        self.own_hooks = sum(hook is in_preferred_memory_format for h in self.hooks for hook in h.values())
        self.readers = [(module, constants_of(module)) for module in self.modules]
        self.readers = [(module, read) for module, read in self.readers if read is not None]
        self.constants = self._constants()

    def _members(self) -> list[Any]:
        return [*chain.from_iterable(map(dict.values, self.registers))]

    def _addresses(self) -> list[int]:
        return [*map(Tensor.data_ptr, self.plain)]

    def _constants(self) -> list[Any]:
        return [read(module) for module, read in self.readers]

    def is_on(self, device: torch.device) -> bool:
        """Return whether all weights are plain tensors on a device."""
        return self.devices <= {device}

    def is_watched(self) -> bool:
        """Return whether there are hooks that are not ours."""
        return sum(map(len, self.hooks)) != self.own_hooks or has_hooks()

    def holds(self) -> bool:
        """Return whether everything is where it was; values may be others. Takes microseconds."""
        members = self._members()
        return (
            len(members) == len(self.members)
            and all(map(is_, members, self.members))
            and self._addresses() == self.addresses
            and self._constants() == self.constants
        )


def constants_of(module: nn.Module) -> Callable[[nn.Module], Any] | None:
    """Return what reads the constants of a neuron, or of a layer that has a way to compute by spikes; else None."""
    if not isinstance(module, SpikingNeuron) and 'spiking' not in vars(module):
        return None
    names = [name for name, value in vars(module).items() if isinstance(value, (bool, int, float, str))]
    names += ['rounding'] * isinstance(getattr(module, 'rounding', None), str)  # of the class, until it is set
    return attrgetter(*dict.fromkeys([*names, 'training']))


class Graphs:
    """Call of a module: a graph for each kind of input, and the module itself where graphs are of no use.

    Args:
        name: of the module, for messages.
        module: in evaluation mode.
        max_graphs: kept at most.

    >>> len(Graphs('layer', nn.Linear(2, 1).eval(), max_graphs=1).graphs)
    0
    """

    def __init__(self, name: str, module: nn.Module, max_graphs: int) -> None:
        self.name, self.module, self.max_graphs = name, module, max_graphs
        self.graphs: OrderedDict[Any, Captured] = OrderedDict()
        self.last: Any = None
        self.state: State | None = None
        self.recorder: CudaRecorder | None = None
        self.refused = False
        self.lock = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_compiling() or is_recording():
            return self.module._call_impl(*args, **kwargs)
        with self.lock:
            if self.state is None or not self.graphs and not self.state.holds():
                self.renew()
            if any(map(attrgetter('training'), self.state.modules)) and not self.state.holds():
                self.renew()  # it may be gone by now
        require_evaluation(self.name, self.state.modules)
        leaves, structure = tree_flatten((args, kwargs))
        inputs = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        with_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
        require(not with_gradient, 'requires_grad', with_gradient, 'inputs without gradients, for CUDA graphs')
        with torch.no_grad():
            if self.applies(leaves, inputs):
                key = repr(structure), *map(kind_of, leaves)
                with self.lock:
                    captured = self.find(key, args, kwargs)
                    if captured is not None:
                        found = self.recorder.replay(captured, inputs, own_copy)
                        if self.state.holds():  # asked while the device computes
                            return found
                        self.renew()
                if captured is not None:
                    return self(*args, **kwargs)
            return self.module._call_impl(*args, **kwargs)

    def renew(self) -> None:
        """Look at the module anew, and give the graphs of what it was back."""
        self.forget()
        self.state = State(self.module)

    def applies(self, leaves: Sequence[Any], inputs: Sequence[Tensor]) -> bool:
        """Return whether these inputs can be a graph's, and nobody wants to see what is computed."""
        devices = {tensor.device for tensor in inputs}
        if len(devices) != 1:
            return False
        (device,) = devices
        if self.recorder is None or self.recorder.device != device:
            recorder = capturing.recorder_for(device)
            if recorder is None:
                tell(f'CUDA graphs need a GPU: calls on {device.type} run without them')
                return False
            with self.lock:
                self.forget()
                self.recorder = recorder
        return can_replay(self.recorder, self.state, leaves)

    def find(self, key: tuple, args: tuple, kwargs: dict[str, Any]) -> Captured | None:
        """Return the graph for such inputs; None if there is to be none."""
        precision = autocast_dtype(self.recorder.device)
        key = *key, precision
        again, self.last = key == self.last, key
        captured = self.graphs.get(key)
        if captured is not None:
            self.graphs.move_to_end(key)
            return captured
        if self.graphs and not self.state.holds():
            self.renew()
            again, self.last = False, key
        full = len(self.graphs) >= self.max_graphs
        if self.refused or full and not again:
            return None
        if full:
            self.recorder.wait()
            self.graphs.popitem(last=False)
        try:
            captured = self.graphs[key] = self.capture(args, kwargs, precision)
        except capturing.CannotCaptureError as error:
            self.refused = True
            tell(f'{self.name} runs without CUDA graphs: {error}')
        return captured

    def capture(self, args: tuple, kwargs: dict[str, Any], precision: torch.dtype | None) -> Captured:
        """Capture a call with inputs like these."""
        # Neither inputs nor outputs of a graph are for inference mode alone, whoever calls first.
        with torch.inference_mode(False), torch.no_grad():
            own_args, own_kwargs = tree_map_only(Tensor, lambda t: torch.empty_like(t).copy_(t), (args, kwargs))
            # What a cache of casts holds would be gone when the graph reads it.
            cast = torch.autocast(
                self.recorder.device.type, precision, enabled=precision is not None, cache_enabled=False
            )

            def run() -> Any:
                with cast:
                    return self.module._call_impl(*own_args, **own_kwargs)

            own = [leaf for leaf in tree_leaves((own_args, own_kwargs)) if isinstance(leaf, Tensor)]
            captured = self.recorder.capture(run, own)
        for leaf in tree_leaves(captured.outputs):
            if type(leaf) not in PLAIN and not isinstance(leaf, CONSTANTS):
                raise capturing.CannotCaptureError(f'its result has a {type(leaf).__name__}')
        return captured

    def forget(self) -> None:
        """Give all graphs back."""
        if self.graphs:
            self.recorder.wait()
        self.graphs.clear()
        self.last, self.refused = None, False


def can_replay(recorder: CudaRecorder, state: State, leaves: Sequence[Any]) -> bool:
    """Return whether inputs can be a graph's, and nobody wants to see what is computed."""
    return (
        all(type(leaf) in PLAIN or isinstance(leaf, CONSTANTS) for leaf in leaves)
        and recorder.is_free()
        and not getattr(_python_dispatch, '_get_current_dispatch_mode_stack', list)()
        and state.is_on(recorder.device)
        and not state.is_watched()
    )


def kind_of(leaf: Any) -> Any:
    """Return what tells inputs of one graph from those of another: of tensors all but the values, of constants all."""
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape), leaf.stride(), leaf.dtype
    return type(leaf), leaf


def own_copy(outputs: Any) -> Any:
    """Return copies of tensors, nested or not; one that is there twice stays one."""
    copies: dict[int, Tensor] = {}

    def copy(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) not in copies:
            copies[id(leaf)] = leaf.clone()
        return copies[id(leaf)]

    return tree_map(copy, outputs)


def tell(message: str) -> None:
    """Log a message once."""
    if message not in _told:
        _told.add(message)
        print_log(message, 'current')
