"""A network written down as the values that flow between its units, as one run of it shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_flatten, tree_map_only

from qsdt_mm.errors import InputError
from qsdt_mm.models.layers import SpikeDrivenSelfAttention, SpikeUnit, named_units
from qsdt_mm.models.neurons import SpikingNeuron


@dataclass(eq=False)
class Node:
    """A value of the run and what made it.

    Args:
        kind: 'image', 'drive' (synapse and norm of a unit), 'fire' (a neuron), 'product' (attention) or 'call' (any
            other function of torch).
        inputs: the values that it was made of.
        shape: of the value, with the images of the run as its batch.
        name: of the module that it was made in.
        module: the unit, neuron or attention.
        function, args, kwargs: of a call; its inputs stand among the arguments as nodes.
        index: of a call that returns several values, which one.

    >>> str(Node('drive', name='backbone.stages.0.downsample'))
    'drive in backbone.stages.0.downsample'
    """

    kind: str
    inputs: tuple[Node, ...] = ()
    shape: torch.Size = torch.Size()
    name: str = ''
    module: nn.Module | None = None
    function: Callable[..., Any] | None = None
    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    index: int | None = None

    def __str__(self) -> str:
        what = (resolve_name(self.function) or str(self.function)) if self.function else self.kind
        return f'{what} in {self.name or "the model"}'


@dataclass(frozen=True)
class Recording:
    """The nodes of a run in their order, its image, and its outputs in the structure that the network returned.

    >>> from torch import nn
    >>> recording = record(nn.Identity(), torch.ones(2, 1), lambda model, image: model(image) + 1)
    >>> [node.kind for node in recording.nodes], recording.users()[recording.image][0] is recording.outputs
    (['image', 'call'], True)
    """

    nodes: list[Node]
    image: Node
    outputs: Any

    def users(self) -> dict[Node, list[Node]]:
        """Return for each node that an output needs the nodes that use it."""
        wanted = {node for node in tree_flatten(self.outputs)[0] if isinstance(node, Node)}
        users: dict[Node, list[Node]] = {node: [] for node in wanted}
        for node in reversed(self.nodes):
            if node in users:
                for source in node.inputs:
                    users.setdefault(source, []).append(node)
        return users


class _Recorder(TorchFunctionMode):
    """Notes each function of torch that a value of the network goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.found: dict[int, tuple[Tensor, Node]] = {}  # the tensors are kept, so that no other has their address
        self.inside = ['']
        self.paused = False

    def node(self, value: Tensor) -> Node | None:
        known = self.found.get(id(value))
        return known[1] if known and known[0] is value else None

    def note(self, value: Tensor, node: Node) -> Tensor:
        node.shape = value.shape
        self.nodes.append(node)
        self.found[id(value)] = value, node
        return value

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        values = [v for v in tree_flatten((args, kwargs))[0] if isinstance(v, Tensor)]
        inputs = tuple(n for v in values if (n := self.node(v)) is not None) if not self.paused else ()
        before = [(v, v._version) for v in values] if inputs else []
        result = function(*args, **kwargs)
        if not inputs:
            return result
        several = isinstance(result, (tuple, list))
        outputs = list(result) if several else [result]
        args, kwargs = tree_map_only(Tensor, lambda v: self.node(v) or v, (args, kwargs))
        for index, value in enumerate(outputs):
            # What comes back as it went in is no new value, unless the function has written to it.
            if isinstance(value, Tensor) and not any(value is v and v._version == old for v, old in before):
                place = index if several else None
                self.note(
                    value,
                    Node(
                        'call', inputs, name=self.inside[-1], function=function, args=args, kwargs=kwargs, index=place
                    ),
                )
        return result

    def leave(self) -> None:
        """End a module: what it puts out stays as it is."""
        self.inside.pop()

    @contextmanager
    def by_itself(self) -> Iterator[None]:
        """Let a unit compute without noting its operations."""
        paused, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = paused

    def replaced(self, method: Callable, kind: str, module: nn.Module, name: str) -> Callable:
        """Return a method that computes as before and notes its result as one node."""

        def noted(*values: Tensor) -> Tensor:
            inputs = tuple(self.node(v) for v in values)
            with self.by_itself():
                result = method(*values)
            if self.paused or None in inputs:
                return result
            if self.node(result) is not None:  # an identity: another value all the same
                result = result.clone()
            return self.note(result, Node(kind, inputs, name=name, module=module))

        return noted


@torch.no_grad()
def record(model: nn.Module, image: Tensor, run: Callable[[nn.Module, Tensor], Any]) -> Recording:
    """Run a network once and return what flowed between its units.

    Args:
        model: made of units, in evaluation mode; its methods are replaced while it runs, and put back.
        image: what enters the backbone, ``(N, C, H, W)`` or ``(N, T, C, H, W)``.
        run: passes the image through the network.

    Raises:
        InputError: an output does not depend on the image.
    """
    recorder, names = _Recorder(), {module: name for name, module in model.named_modules()}
    image_node = Node('image')
    replaced: list[tuple[nn.Module, str]] = []

    def replace(module: nn.Module, method: str, new: Callable) -> None:
        setattr(module, method, new)
        replaced.append((module, method))

    neurons = {m for m in names if isinstance(m, SpikingNeuron)} | {u.neuron for _, u in named_units(model) if u.neuron}
    handles = []
    try:
        for module, name in names.items():
            if isinstance(module, SpikeUnit):
                replace(module, 'drive', recorder.replaced(module.drive, 'drive', module, name))
            elif isinstance(module, SpikeDrivenSelfAttention):
                replace(module, 'attend', recorder.replaced(module.attend, 'product', module, name))
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: recorder.inside.append(name)))
            handles.append(module.register_forward_hook(lambda *_: recorder.leave()))
        for neuron in neurons:
            replace(neuron, 'forward', recorder.replaced(neuron.forward, 'fire', neuron, names.get(neuron, '')))
        image = image.clone()
        recorder.note(image, image_node)
        with recorder:
            outputs = run(model, image)
    finally:
        for handle in handles:
            handle.remove()
        for module, method in replaced:
            delattr(module, method)

    def of(value: Tensor) -> Node:
        node = recorder.node(value)
        if node is None:
            raise InputError(f'an output of {type(model).__name__}, {tuple(value.shape)}, does not come from the image')
        return node

    return Recording(recorder.nodes, image_node, tree_map_only(Tensor, of, outputs))
