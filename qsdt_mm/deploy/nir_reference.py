"""A reference interpreter of NIR graphs, by the definitions of their nodes alone: edges to one node add up.

It computes in float64, in which every node that a plan becomes is exact, and knows nothing of plans until its results
are compared with one.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qsdt_mm.errors import InputError, one_line

from .nir import NirExport, require_nir
from .onnx_check import Agreement
from .plan import Plan


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(np.asarray(value), dtype=torch.float64)


def _ints(value: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in np.atleast_1d(value))


def _convolved(node: Any, x: Tensor) -> Tensor:
    args = dict(stride=_ints(node.stride), padding=_ints(node.padding), dilation=_ints(node.dilation))
    return F.conv2d(x, _tensor(node.weight), _tensor(node.bias), **args, groups=int(node.groups))


def _summed(node: Any, x: Tensor) -> Tensor:
    return F.avg_pool2d(x, _ints(node.kernel_size), _ints(node.stride), _ints(node.padding), divisor_override=1)


RULES: dict[str, Callable[[Any, Tensor], Tensor]] = dict(
    Output=lambda node, x: x,
    Conv2d=_convolved,
    SumPool2d=_summed,
    Affine=lambda node, x: x @ _tensor(node.weight).mT + _tensor(node.bias),
    Linear=lambda node, x: x @ _tensor(node.weight).mT,
    Scale=lambda node, x: x * _tensor(node.scale),
    Threshold=lambda node, x: (x > _tensor(node.threshold)).double(),
    Flatten=lambda node, x: x.flatten(1 + int(node.start_dim), int(node.end_dim)),
)
"""Nodes by name, as functions of the node and the sum of its inputs, with the batch in front."""
ELEMENTWISE = ('Scale', 'Threshold')


def run_graph(graph: Any, pixels: Tensor) -> dict[str, Tensor]:
    """Return the outputs of a graph by name, in float32.

    Args:
        graph: ``nir.NIRGraph`` of sums, products and thresholds; without state, so without time.
        pixels: of images ``(N, C, H, W)``, what its input takes.

    Raises:
        InputError: the graph has a node of another kind, a circle, or inputs that do not fit; one line.
    """
    sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        sources[target].append(source)
    try:
        order = list(TopologicalSorter(sources).static_order())
    except CycleError as error:
        raise InputError(f'the graph goes in a circle: {", ".join(error.args[1])}') from error
    values: dict[str, Tensor] = {}
    for name in order:
        node, kind = graph.nodes[name], type(graph.nodes[name]).__name__
        if kind == 'Input':
            values[name] = pixels.double()
            continue
        if kind not in RULES:
            raise InputError(f'{name}: a node {kind}; {", ".join(RULES)} are known')
        total = sum(values[source] for source in sources[name])
        if kind in ELEMENTWISE and total.shape[1:] != tuple(node.input_type['input']):
            raise InputError(f'{name}: takes {tuple(node.input_type["input"])}, but is given {tuple(total.shape[1:])}')
        values[name] = RULES[kind](node, total)
    return {name: values[name].float() for name in graph.outputs}


def read_graph(content: bytes, name: str = 'the file') -> Any:
    """Return the graph in a NIR file.

    Raises:
        InputError: nir is not installed, or the file is none of its; one line.
    """
    nir = require_nir()
    try:
        return nir.read(io.BytesIO(content))
    except Exception as error:  # of HDF5, or of the shapes of nodes
        raise InputError(f'{name} is no NIR file: {one_line(error)[:200]}') from error


@torch.no_grad()
def check_graph(plan: Plan, export: NirExport, content: bytes, pictures: dict[str, Tensor]) -> Agreement:
    """Compare what a file gives, read back, with the values of the plan, bit by bit.

    Args:
        plan: that the graph was made of.
        export: the graph, for the names of its outputs in the plan.
        content: of the file.
        pictures: uint8, each of the plan's shape, by name.

    Raises:
        InputError: the file cannot be read or run.
    """
    graph = read_graph(content)
    names = list(export.outputs.items())
    part = Plan(list(plan.steps)[: export.steps], tuple(value for _, value in names), plan.shape)
    different = []
    for name, picture in pictures.items():
        images = picture[None].cpu()
        found, wanted = run_graph(graph, images), part(images.to(next(plan.buffers()).device))
        same = all(torch.equal(found[out], value.float().cpu()) for (out, _), value in zip(names, wanted))
        different += [] if same and len(found) == len(names) else [name]
    return Agreement('NIR, read back and run in float64', len(pictures), different)
