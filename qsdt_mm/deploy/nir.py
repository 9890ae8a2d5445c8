"""A plan as a graph of the Neuromorphic Intermediate Representation (NIR): sums, products and strict thresholds.

NIR neither rounds nor clips. Both are written as thresholds ``[x > t]``, which it compares strictly:

* a count ``clip(rne(x), 0, D)`` is the sum of D thresholds at ``d - 1/2``, for x is never on a half;
* a whole number from low to high is ``low + sum over k of w_k [x - low - (what was taken) > w_k - 1/2]``, greedily with
  weights ``w_k`` of powers of two: eight thresholds for a byte. Where x may lie on a half, two more thresholds see
  whether it does and take one off an odd result, so that halves go to even.

In float64 every node is exact but the last product of an output, so outputs taken to float32 have the bits of the plan.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from qsdt_mm.errors import InputError
from qsdt_mm.fileio.atomic import atomic_open

from .onnx import output_names
from .plan import Plan
from .steps import EXACT, GRID, Convolve, Fire, Step

INSTALL = 'pip install nir h5py, or pip install -e ".[deploy-nir]" in the folder of qsdt_mm'


def require_nir() -> Any:
    """Return the module ``nir``.

    Raises:
        InputError: it is not installed.
    """
    try:
        import nir
    except ImportError:
        raise InputError(f'NIR files need the packages nir and h5py: {INSTALL}') from None
    return nir


@dataclass(frozen=True)
class NirExport:
    """A graph, and what it leaves out.

    Args:
        graph: ``nir.NIRGraph``.
        outputs: for each output of the graph, the name of the plan's value that it is.
        steps: how many steps of the plan it carries.
        missing: a line for each step that the format cannot carry.

    >>> NirExport(graph=None, outputs={}, steps=51).missing
    []
    """

    graph: Any
    outputs: dict[str, str]
    steps: int
    missing: list[str] = field(default_factory=list)


def shapes_of(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the shape of each value of a plan for one image, with the batch."""
    values = {'pixels': torch.zeros(1, *plan.shape, dtype=torch.uint8)}
    with torch.no_grad():
        for step in plan.steps:
            values[step.output] = step(*(values[name] for name in step.inputs))
    return {name: tuple(value.shape) for name, value in values.items()}


def _own_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a value of one image without the ones in front: batch and time."""
    return tuple(shape[next((i for i, n in enumerate(shape[:-1]) if n != 1), len(shape) - 1) :])


def keeps_order(step: Step, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Return whether an arrangement leaves the values of one image as they are, or only flattens them."""
    if step.function not in ('flatten', 'reshape', 'unflatten', 'unbind', 'repeat_in_front') or len(step.inputs) != 1:
        return False
    before, after = (shapes[name] for name in (step.inputs[0], step.output))
    return math.prod(before) == math.prod(after) and (_own_shape(before) == _own_shape(after) or len(after) == 2)


def obstacle(step: Step, shapes: dict[str, tuple[int, ...]]) -> str | None:
    """Return why NIR cannot carry a step; None where it can."""
    kind, shape = type(step).__name__, shapes[step.output]
    if any(shapes[name][0] != 1 for name in (*step.inputs, step.output)):
        return 'time steps, which carry over what is left of a membrane'
    reason = None
    if kind == 'Product':
        reason = 'the product of query, key and value: no node multiplies two signals'
    elif kind == 'Fire':
        reason = 'time steps, which carry over what is left of a membrane' if step.time_steps > 1 else None
    elif kind == 'Convolve':
        kernel = step.weight.shape[2:]
        if step.layer == 'conv_transpose':
            reason = 'a transposed convolution'
        elif step.layer == 'linear':
            reason = None if len(shape) == 2 else 'a linear layer of more than one dimension'
        elif len(kernel) != 2 or kernel[0] != kernel[1]:
            reason = f'a kernel of {tuple(kernel)}: the format infers shapes of square ones'
    elif kind == 'Round':
        counts = step.whole and step.low == 0 and step.high < 128
        reason = None if counts else 'a sum that is scaled and rounded to whole numbers of both signs'
    elif kind == 'Resize':
        reason = 'bilinear resizing'
    elif kind == 'Arrange':
        reason = None if keeps_order(step, shapes) else f'{step.function}: values that change places'
    elif kind not in ('Normalise', 'Charge', 'Add', 'Scale', 'SumPositions'):
        reason = 'no node does this'
    return reason


def narrow(values: Tensor) -> np.ndarray:
    """Return values in float32 where that is exact, else in float64."""
    values = values.double().contiguous()
    return (values.float() if torch.equal(values.float().double(), values) else values).numpy()


class _Graph:
    """Nodes and edges of a graph that grows. A value is a list of nodes: their sum, which edges to one node form."""

    def __init__(self, plan: Plan, shapes: dict[str, tuple[int, ...]]) -> None:
        self.nir, self.shapes = require_nir(), shapes
        shape = np.array(plan.shape)
        self.nodes: dict[str, Any] = {'pixels': self.nir.Input(input_type={'input': shape})}
        self.shapes_made: dict[str, tuple[int, ...]] = {'pixels': plan.shape}
        self.edges: list[tuple[str, str]] = []
        self.values: dict[str, list[str]] = {'pixels': ['pixels']}

    def node(self, name: str, node: Any, sources: list[str]) -> list[str]:
        if not isinstance(node, (self.nir.SumPool2d, self.nir.Output)):
            self.shapes_made[name] = tuple(node.output_type['output'])
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return [name]

    def full(self, value: Any, like: str) -> np.ndarray:
        """Return a number, or one for each channel, in the shape of a value."""
        shape = self.shapes[like][1:]
        value = torch.as_tensor(value, dtype=torch.float64)
        value = value.view(-1, *[1] * (len(shape) - 1)) if value.dim() else value
        return narrow(value.expand(shape))

    def threshold(self, name: str, at: Any, sources: list[str], like: str) -> list[str]:
        return self.node(name, self.nir.Threshold(threshold=self.full(at, like)), sources)

    def scale(self, name: str, by: Any, sources: list[str], like: str) -> list[str]:
        return self.node(name, self.nir.Scale(scale=self.full(by, like)), sources)

    def affine(self, name: str, by: Any, offset: Any, sources: list[str], like: str) -> list[str]:
        """Add ``by * x + offset``, a number for each channel."""
        shape = self.shapes[like][1:]
        by, offset = (torch.as_tensor(v, dtype=torch.float64).expand(shape[0]) for v in (by, offset))
        if len(shape) == 1:
            return self.node(name, self.nir.Affine(weight=narrow(by.diag()), bias=narrow(offset)), sources)
        return self.conv(name, by.view(-1, 1, 1, 1), offset, sources, groups=shape[0])

    def conv(self, name: str, weight: Tensor, bias: Tensor, sources: list[str], groups: int = 1, **args: Any):
        def pair(key: str, default: int) -> tuple[int, int]:
            value = args.get(key, default)
            return (value, value) if isinstance(value, int) else tuple(value)

        if groups > 1:  # without groups: the format would take the channels of one for those of the input
            inside = weight.shape[1]
            whole = weight.new_zeros(weight.shape[0], inside * groups, *weight.shape[2:])
            for group, rows in enumerate(torch.arange(weight.shape[0]).chunk(groups)):
                whole[rows, group * inside : (group + 1) * inside] = weight[rows]
            weight = whole
        size = self.shapes_made[sources[0]][1:]
        node = self.nir.Conv2d(
            input_shape=tuple(int(n) for n in size),
            weight=narrow(weight),
            stride=pair('stride', 1),
            padding=pair('padding', 0),
            dilation=pair('dilation', 1),
            groups=1,
            bias=narrow(bias),
        )
        return self.node(name, node, sources)

    def count(self, out: str, thresholds: list[float], sources: list[str]) -> None:
        """Add the sum of a threshold for each spike."""
        self.values[out] = [
            self.threshold(f'{out}_{d}', at, sources, out)[0] for d, at in enumerate(thresholds, start=1)
        ]

    def whole(self, out: str, sources: list[str], low: int, high: int, shift: int = 0, grid: Tensor | None = None):
        """Add ``clip(rne(x), low, high) + shift``.

        Args:
            out: name of the result.
            sources: whose sum is x.
            low, high: limits.
            shift: added to the result.
            grid: x is a multiple of it and may lie on a half; None: it never does.
        """
        least, most, below = low, high, 0.0
        if grid is not None:  # from even to odd: all weights but one are even then, and that one tells odd results
            least, most, below = low - low % 2, high + 1 - high % 2, grid.double() / 2
        reach = most - least
        digits = (reach + 1).bit_length() - 1
        weights = [reach - 2**digits + 1, *(2**k for k in reversed(range(digits)))]
        taken: list[str] = []
        spikes: list[str] = []
        for i, weight in enumerate(w for w in weights if w):
            at = weight - 0.5 + least - below
            spikes = self.threshold(f'{out}_bit_{i}', at, [*sources, *taken], out)
            taken += self.scale(f'{out}_taken_{i}', -float(weight), spikes, out)
        total, constant = list(taken), least + shift
        if grid is not None:
            off = self.threshold(f'{out}_off_half', least - 0.5 + below, [*sources, *taken], out)
            off = self.scale(f'{out}_off_half_negative', -1.0, off, out)
            total += self.threshold(f'{out}_odd_half', 0.5, [*spikes, *off], out)
        if most != high:
            total += self.threshold(f'{out}_above', high + 0.5, sources, out)
        if least != low:
            total += self.threshold(f'{out}_within', low - 0.5, sources, out)
            constant += 1
        self.values[out] = self.affine(out, -1.0, constant, total, out)

    # ------------------------------------------------------------------------------------------------ steps
    def normalise(self, step: Step) -> None:
        out, source = step.output, self.values[step.inputs[0]]
        levels = step.gain.double()[:, None] * torch.arange(256) + step.offset.double()[:, None]
        low, high = int(levels.min().round()), int(levels.max().round())
        halves = bool((levels % 1 == 0.5).any())
        grid = torch.full((len(step.gain),), float(lowest_digit(torch.cat([step.gain, step.offset])).min()))
        real = self.affine(f'{out}_real', step.gain, step.offset, source, out)
        self.whole(out, real, low, max(high, low + 1), grid=grid if halves else None)

    def convolve(self, step: Convolve) -> None:
        out, source = step.output, self.values[step.inputs[0]]
        weight = step.whole_weight
        if step.layer == 'linear':
            node = self.nir.Affine(weight=narrow(weight), bias=narrow(step.bias))
            sums = self.node(f'{out}_sums', node, source)
        else:
            sums = self.conv(f'{out}_sums', weight, step.bias, source, **step.conv_args)
        name = out if step.to_kind == 'real' else f'{out}_scaled'
        real = self.scale(name, step.scale, sums, out)
        if step.to_kind == 'real':
            self.values[out] = real
        elif step.to_kind == 'count':
            self.count(out, [d - 0.5 for d in range(1, step.high + 1)], real)
        elif step.to_kind == 'byte':
            self.whole(out, real, *step.limits, shift=-128)
        else:
            reach = weight.double().abs().flatten(1).sum(1) * step.most + step.bias.double().abs()
            reach = reach * step.scale.double()
            high = min(int(reach.max().ceil()) + 1, step.limits[1])
            digit = lowest_digit(step.scale)
            # A half is an odd multiple of half the multiplier's whole part.
            halves = (digit < 1) & (step.scale.double() / digit / 2 <= reach)
            self.whole(out, real, -high, high, grid=digit.clamp_max(1) if bool(halves.any()) else None)

    def charge(self, step: Step) -> None:
        *membrane, increment = step.inputs
        out, source = step.output, self.values[increment]
        if not membrane:
            self.values[out] = self.affine(out, step.delta, step.added, source, out)
            return
        name = f'{out}_increment'
        offset = isinstance(step.added, Tensor)
        own = self.affine(name, step.delta, step.added, source, out) if offset else None
        self.values[out] = [*self.values[membrane[0]], *(own or self.scale(name, step.delta, source, out))]

    def fire(self, step: Fire) -> None:
        spikes = range(1, step.max_spike_count + 1)
        if math.frexp(step.ratio)[0] == 0.5:
            thresholds = [(d - 0.5) / step.ratio - step.nudge for d in spikes]
        else:  # the product rounds: between the last membrane of its grid that is below and the first that is not
            thresholds = [first(step, d, GRID / 2) - GRID / 4 for d in spikes]
        self.count(step.output, thresholds, self.values[step.inputs[0]])

    def round(self, step: Step) -> None:
        spikes = range(1, int(step.high) + 1)
        self.count(step.output, [first(step, d, 1.0) - 0.5 for d in spikes], self.values[step.inputs[0]])

    def add(self, step: Step) -> None:
        one, other = (self.values[name] for name in step.inputs)
        if set(one) & set(other):
            other = self.scale(f'{step.output}_other', 1.0, other, step.output)
        self.values[step.output] = [*one, *other]

    def sumpositions(self, step: Step) -> None:
        (name,), out = step.inputs, step.output
        kept = f'{out}_kept'
        self.shapes[kept] = self.shapes[name]
        real = self.scale(f'{out}_scaled', 2.0**step.digits, self.values[name], name)
        channels, height, width = self.shapes[name][1:]
        # Membranes are multiples of half a step of their grid.
        grid = torch.full((channels,), GRID / 2 * 2.0**step.digits, dtype=torch.float64)
        self.whole(kept, real, -int(step.limit), int(step.limit), grid=grid)
        area = np.array([height, width])
        pool = self.nir.SumPool2d(kernel_size=area, stride=area, padding=np.array([0, 0]))
        self.shapes_made[out] = self.shapes[out][1:]
        self.values[out] = self.node(out, pool, self.values[kept])

    def arrange(self, step: Step) -> None:
        before, after = (self.shapes[name] for name in (step.inputs[0], step.output))
        if _own_shape(before) == _own_shape(after) and len(self.shapes_made[self.values[step.inputs[0]][0]]) == 1:
            self.values[step.output] = self.values[step.inputs[0]]
            return
        shape = np.array(before[1:])
        flatten = self.nir.Flatten(input_type={'input': shape}, start_dim=0, end_dim=-1)
        self.values[step.output] = self.node(step.output, flatten, self.values[step.inputs[0]])


def lowest_digit(values: Tensor) -> Tensor:
    """Return the largest power of two that each value is a whole multiple of; 1 for zero, float64."""
    mantissa, exponent = np.frexp(values.double().numpy())
    whole = (mantissa * 2.0**53).astype(np.int64)
    digit = (whole & -whole).astype(np.float64) * 2.0 ** (exponent - 53.0)
    return torch.from_numpy(np.where(whole == 0, 1.0, digit))


def first(step: Callable[[Tensor], Tensor], count: int, grid: float) -> float:
    """Return the first multiple of ``grid`` at which a step, which grows, gives ``count``."""
    low, high = -EXACT, EXACT
    while high - low > 1:
        middle = (low + high) // 2
        reached = float(step(torch.tensor([middle * grid], dtype=torch.float32))) >= count
        low, high = (low, middle) if reached else (middle, high)
    return high * grid


@torch.no_grad()
def to_nir(plan: Plan, *, partial: bool = False) -> NirExport:
    """Return a plan as a graph of NIR: input 'pixels' of one image, outputs in the plan's order.

    Args:
        plan: to be written.
        partial: where the format cannot carry a step, end the graph before the first such step; its outputs are then
            the values that the rest of the plan would take, under their names in the plan.

    Raises:
        InputError: the package nir is missing, or the format cannot carry a step; the message names them all.
    """
    require_nir()
    plan = copy.deepcopy(plan).cpu()
    shapes = shapes_of(plan)
    steps = list(plan.steps)
    reasons = [obstacle(step, shapes) for step in steps]
    missing = [f'{s.output} ({type(s).__name__}): {why}' for s, why in zip(steps, reasons) if why]
    if missing and not partial:
        listed = '; '.join(_summary(steps, reasons))
        raise InputError(f'NIR cannot carry {len(missing)} of {len(steps)} steps: {listed}')
    end = next((i for i, why in enumerate(reasons) if why), len(steps))
    if not any(isinstance(step, (Convolve, Fire)) for step in steps[:end]):
        raise InputError(f'nothing that spikes comes before the first step that NIR cannot carry: {missing[0]}')
    graph = _Graph(plan, shapes)
    for step in steps[:end]:
        if type(step).__name__ == 'Scale':
            value = torch.tensor(step.worth, dtype=torch.float32)
            source = graph.values[step.inputs[0]]
            graph.values[step.output] = graph.scale(step.output, value, source, step.output)
        else:
            getattr(graph, type(step).__name__.lower())(step)
    finals = tree_flatten(plan.outputs)[0]
    if end == len(steps):
        outputs = dict(zip(output_names(plan), finals))
    else:
        wanted = {name for step in steps[end:] for name in step.inputs} | set(finals)
        outputs = {f'{step.output}_output': step.output for step in steps[:end] if step.output in wanted}
    for name, value in outputs.items():
        graph.node(name, graph.nir.Output(output_type={'output': np.array(shapes[value][1:])}), graph.values[value])
    made = graph.nir.NIRGraph(nodes=graph.nodes, edges=graph.edges, metadata={})
    return NirExport(made, outputs, end, missing)


def nir_content(export: NirExport) -> bytes:
    """Return the HDF5 file of a graph."""
    file = io.BytesIO()
    require_nir().write(file, export.graph)
    return file.getvalue()


def write_nir(export: NirExport, path: str | Path) -> Path:
    """Write a graph into an HDF5 file, which appears whole or not at all. Return its path."""
    with atomic_open(path) as file:
        file.write(nir_content(export))
    return Path(path)


@torch.no_grad()
def obstacles(plan: Plan) -> list[str]:
    """Return why NIR cannot carry a plan, each reason once with the names of its steps; none where it can."""
    plan = copy.deepcopy(plan).cpu()
    shapes = shapes_of(plan)
    return _summary(list(plan.steps), [obstacle(step, shapes) for step in plan.steps])


def _summary(steps: list[Step], reasons: list[str | None]) -> list[str]:
    named: dict[str, list[str]] = {}
    for step, why in zip(steps, reasons):
        if why:
            named.setdefault(why, []).append(step.output)
    return [f'{why} ({", ".join(names)})' for why, names in named.items()]
