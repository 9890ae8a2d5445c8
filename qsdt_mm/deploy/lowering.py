"""From a recorded run to steps: each unit in whole numbers, each membrane on a grid."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_flatten

from qsdt_mm.errors import InputError, require
from qsdt_mm.inference.conversion import fold
from qsdt_mm.models.layers import SpikeUnit
from qsdt_mm.models.layers.attention import PerSlotAttention

from .arithmetic import LARGEST_BYTE, WHOLE_WORTH, fitting_worth, in_whole_numbers
from .calls import adds_nothing, factor_of, is_doubling, is_mean_over_positions, is_sum
from .firing import Firing
from .grids import Grid, arranged, finest, largest_power, lies_beside
from .layouts import layout_of
from .recording import Node, Recording
from .steps import (
    EXACT,
    GRID,
    Add,
    Arrange,
    Charge,
    Convolve,
    Fire,
    Normalise,
    Product,
    Resize,
    Round,
    Scale,
    Step,
    SumPositions,
)

REAL_HEAD_BITS = 8
"""Real weights of a layer that ends the network are quantized to so many bits."""
LARGEST_WHOLE = 2**15 - 1
"""Whole numbers have 16 bits with their sign."""
LARGEST_INPUT = 2**11 - 1
"""Means that drive a layer themselves have 12 at most: its sums have to be exact."""
FINER_THAN_PIXELS = 4
"""Images that are no whole numbers are rounded to about so many steps for one of a pixel."""
FURTHEST = 2.0**11
"""Membranes below this are on their grid in float32."""


@dataclass(frozen=True)
class Value:
    """A named value of the plan.

    Args:
        name: in the plan.
        kind: see :mod:`qsdt_mm.deploy.steps`; 'increment' is a byte that is still to be added to a membrane.
        worth: of one unit, as a real number: a float, or ``(C,)``.
        most: the largest magnitude, of whole numbers; of a membrane a bound in its own units.
        nudged: whether a membrane never lies on a half.
        grid: where a membrane lies in each channel; None where that is not known.
        coarse: the same, but for half steps of the finest grid that keep it off halves.

    >>> copy_of(Value('u3', 'membrane', worth=0.25), worth=0.5).worth
    0.5
    """

    name: str
    kind: str
    worth: Any = 1.0
    most: float = 0.0
    nudged: bool = False
    grid: Grid | None = None
    coarse: Grid | None = None


def refuse(node: Node, why: str) -> InputError:
    return InputError(f'{node} cannot be deployed: {why}')


class Lowering:
    """Turns the nodes of a recording into steps, and runs each on the calibration images to see how large values get.

    Args:
        recording: of the network.
        pixels: the calibration images, whole numbers.
        mean, std: of each channel of the image.

    Raises:
        InputError: a node has no whole-number form; the message names it.

    >>> from torch import nn
    >>> from qsdt_mm.deploy.recording import record
    >>> recording = record(nn.Identity(), torch.ones(2, 1, 2, 2), lambda model, image: model(image).flatten(1))
    >>> pixels = torch.full((2, 1, 2, 2), 200, dtype=torch.uint8)
    >>> lowering = Lowering(recording, pixels, mean=torch.tensor([100.0]).double(), std=torch.tensor([50.0]).double())
    >>> [type(step).__name__ for step in lowering.steps]
    ['Normalise', 'Arrange']
    """

    def __init__(self, recording: Recording, pixels: Tensor, mean: Tensor, std: Tensor) -> None:
        self.users = recording.users()
        self.steps: list[Step] = []
        self.tensors: dict[str, Tensor] = {}
        self.values: dict[Node, Value] = {}
        self.charged: dict[str, Value] = {}
        self.fused: set[Node] = set()
        self.thresholds = self._thresholds()
        kept = {node for node in tree_flatten(recording.outputs)[0] if isinstance(node, Node)}
        pending = {node: len(users) for node, users in self.users.items()}
        for node in recording.nodes:
            if node not in self.users:
                continue
            if node is recording.image:
                self.values[node] = self.image(pixels, mean, std)
            else:
                self.values[node] = getattr(self, node.kind)(node)
            for source in node.inputs:
                pending[source] -= 1
                name = self.values[source].name
                alive = any(v.name == name and (pending[n] or n in kept) for n, v in self.values.items())
                if not alive:
                    self.tensors.pop(name, None)

    # ------------------------------------------------------------------------------------------------ helpers
    def put(self, step: Step) -> Tensor:
        """Add a step, and run it on the calibration images."""
        self.steps.append(step)
        self.tensors[step.output] = step(*(self.tensors[name] for name in step.inputs))
        return self.tensors[step.output]

    def name(self, prefix: str) -> str:
        return f'{prefix}{len(self.steps)}'

    def _thresholds(self) -> dict[Node, float]:
        """Return for each membrane the threshold that it is measured in: one for all that are added to each other."""
        parent: dict[Node, Node] = {node: node for node in self.users}

        def root(node: Node) -> Node:
            while parent[node] is not node:
                node = parent[node]
            return node

        for node in self.users:
            if node.kind == 'call':
                for source in node.inputs:
                    parent[root(source)] = root(node)
        found: dict[Node, float] = {}
        for node in self.users:
            for user in self.users[node]:
                if user.kind == 'fire':
                    threshold = firing_of(user).threshold
                    found[root(node)] = min(found.get(root(node), math.inf), threshold)
        return {node: found.get(root(node), 1.0) for node in self.users}

    def one(self, node: Node) -> Value:
        return self.values[node.inputs[0]]

    def membrane(self, value: Value) -> Value:
        """Return a value as a membrane: an increment charges an empty one."""
        if value.kind != 'increment':
            return value
        if value.name not in self.charged:
            self.charged[value.name] = self.charge(None, value)
        return self.charged[value.name]

    def charge(self, membrane: Value | None, increment: Increment) -> Value:
        """Add an increment to a membrane, or to nothing."""
        units, own = increment.worth_in_thresholds, increment.own_grid
        half = units / GRID * own.beside
        grid, coarse, most = own, own, increment.most
        names: tuple[str, ...] = (increment.name,)
        if membrane is not None:
            grid = membrane.grid and membrane.grid.plus(own)
            coarse = membrane.coarse and membrane.coarse.plus(own)
            names, most = (membrane.name, *names), membrane.most + most
        if bool((units < GRID).any()):  # no neuron will see it
            grid = None
        if grid is not None:
            on_halves = ~grid.off_halves
            grid, half = grid.nudged(on_halves), half + on_halves
        usual = half.new_full(half.shape, float(membrane is None))
        usual = grid is None and membrane is None or torch.equal(half, usual)
        step = Charge(names, self.name('u'), units, None if usual else half)
        self.put(step)
        nudged = grid is not None or membrane is None
        return Value(step.output, 'membrane', increment.threshold, most, nudged, grid, coarse)

    # ------------------------------------------------------------------------------------------------ nodes
    def image(self, pixels: Tensor, mean: Tensor, std: Tensor) -> Value:
        # Steps of a power of two of a deviation; all that is rounded here has few digits.
        digits = int(torch.floor(torch.log2(std.min() * 1.2)))  # about one of a pixel

        def affine(digits: int) -> tuple[Tensor, Tensor, float]:
            gain = (2.0**digits / std * 2**10).round() / 2**10
            offset = (-mean * gain * 2**10).round() / 2**10
            return gain, offset, float(torch.maximum((255 * gain + offset).abs(), offset.abs()).max().ceil())

        gain, offset, most = affine(digits)
        if not torch.equal(torch.cat([gain, offset]).frac(), torch.zeros(2 * len(gain), dtype=gain.dtype)):
            # Finer than pixels, as far as sums stay exact: what is rounded here is noise in the image.
            limit = self.largest_image()
            while float(gain.min()) < FINER_THAN_PIXELS and affine(digits + 1)[2] <= limit:
                digits += 1
                gain, offset, most = affine(digits)
        self.tensors['pixels'] = pixels
        step = Normalise(('pixels',), 'image', gain, offset)
        self.put(step)
        return Value('image', 'whole', 2.0**-digits, most)

    def largest_image(self) -> int:
        """Return up to where whole numbers of the image may drive the layers that see it."""
        drives = [node for node in self.users if node.kind == 'drive' and node.module.driven_by == 'image']
        return min([largest_input(next(iter(fold(node.module, 1.0, None)))) for node in drives], default=0)

    def beside(self, node: Node, units: Tensor) -> Tensor:
        """Return in which channels a layer's increments are to be rounded down."""
        known: Grid | None = None
        users = self.users[node]
        if len(users) == 1 and factor_of(users[0]) is not None:
            node, users = users[0], self.users[users[0]]
        for user in users:
            others = [n for n in user.inputs if n is not node and n in self.values] if is_sum(user) else []
            if others:
                other = self.values[others[0]]
                known = other.own_grid if isinstance(other, Increment) else other.coarse
                break
        return lies_beside(units, known)

    def drive(self, node: Node) -> Value:
        unit: SpikeUnit = node.module
        require_foldable(node)
        source = self.one(node)
        layers = list(fold(unit, 1.0, None))
        gain_after, last, fire = self.purpose(node)
        if last == 'real' and not layers[-1].integer:
            layers = list(fold(unit, 1.0, REAL_HEAD_BITS))
        if source.kind in ('membrane', 'increment', 'sum'):
            source = self.rounded(source, largest_input(layers[0]))
        threshold = 1.0 if last == 'real' else firing_of(fire).threshold if fire else self.thresholds[node]
        high = firing_of(fire).most if fire else 0
        name, kind, worth, most = source.name, source.kind, source.worth, source.most
        for i, layer in enumerate(layers):
            ends = i == len(layers) - 1
            gain, offset = layer.gain * self.worth_of_inputs(layer, worth), layer.offset
            if ends:
                gain, offset = gain / threshold, offset / threshold
                if gain_after is not None:
                    gain, offset = gain * gain_after, offset * gain_after
                to = last
            else:
                to = 'byte'
            units = self.worth_of_results(
                to, layer, gain, offset, name, None if ends else layers[i + 1], unit.driven_by == 'image' and ends
            )
            beside = self.beside(node, units) if ends and to in ('byte', 'whole') else torch.zeros_like(units).bool()
            if to == 'whole' and bool((units < GRID).any()):
                beside = torch.zeros_like(beside)
            label = node.name if len(layers) == 1 else f'{node.name}, layer {i}'
            numbers = in_whole_numbers(
                layer,
                gain,
                offset,
                units,
                to=to,
                high=high,
                source=kind,
                most=int(most),
                name=label,
                lowered=beside,
                step=GRID if ends and to == 'byte' else None,
            )
            units, beside = numbers.worth, numbers.lowered
            step = Convolve(
                (name,),
                self.name('y'),
                numbers.weight,
                numbers.multiplier,
                numbers.bias,
                numbers.scale,
                to=to,
                high=high,
                bits=numbers.bits,
                layer=kind_of(layer),
                conv_args=plain_args(layer),
                source=kind,
                most=int(most),
            )
            self.put(step)
            name, kind, worth, most = step.output, 'byte', units, 127
        if last == 'count':
            return Value(name, 'count', fire.module.scale, high)
        if last == 'real':
            return Value(name, 'real')
        most = float(units.max()) * (LARGEST_WHOLE if last == 'whole' else LARGEST_BYTE)
        grid = Grid(largest_power(units, GRID), beside)
        increment = Increment(name, 'increment', threshold, most, worth_in_thresholds=units, own_grid=grid)
        return self.charge(None, increment) if last == 'whole' else increment

    def worth_of_inputs(self, layer: nn.Module, worth: Any) -> Any:
        """Return what the inputs of each output channel are worth."""
        if not isinstance(worth, Tensor):
            return worth
        if layer.conv_args is None or layer.conv_args['groups'] == 1:
            return worth[0]  # one for the whole tensor
        return worth.repeat_interleave(len(layer.gain) // len(worth))

    def worth_of_results(
        self,
        to: str,
        layer: nn.Module,
        gain: Tensor,
        offset: Tensor,
        source: str,
        following: nn.Module | None,
        stem: bool,
    ) -> Tensor:
        """Return what one unit of a layer's result is worth, in thresholds, for each channel."""
        if to in ('count', 'real'):
            return torch.ones_like(gain)
        if stem:
            return torch.full_like(gain, WHOLE_WORTH)
        values = self.tensors[source].float()
        weight = layer.weight.float()
        if layer.conv_args is None:
            sums = F.linear(values, weight)
        else:
            args = plain_args(layer)
            sums = (F.conv_transpose2d if layer.transposed else F.conv2d)(values, weight, **args)
        shape = (-1, *[1] * (sums.dim() - 2))
        real = sums * gain.float().view(shape) + offset.float().view(shape)
        if to == 'whole':
            return fitting_worth(real, LARGEST_WHOLE)
        if following is None:
            return fitting_worth(real, LARGEST_BYTE, finest=GRID)
        mixes = following.conv_args is None or following.conv_args['groups'] == 1
        return fitting_worth(real, LARGEST_BYTE, mixed=mixes)

    def purpose(self, node: Node) -> tuple[Tensor | None, str, Node | None]:
        """Return a layer scale to fold in, the kind of result, and the neuron that alone sees it."""
        users, scale, here = self.users[node], None, node
        if len(users) == 1 and (factor := factor_of(users[0])) is not None:
            scale = factor.double().flatten().expand(len_of(node)) if factor.numel() in (1, len_of(node)) else None
            here = users[0] if scale is not None else node
            users = self.users[here]
        if not users:
            return scale, 'real', None
        fires = [user for user in users if user.kind == 'fire']
        if len(fires) == len(users) == 1 and firing_of(fires[0]).time_steps == 1:
            self.fused.add(fires[0])
            return scale, 'count', fires[0]
        if node.module.driven_by == 'image':
            return scale, 'whole', None
        if self.ends_network(here):
            return scale, 'real', None
        # What is summed to an output has to be exact, and has no neuron that would see few digits only.
        return scale, 'byte' if self.drives_neurons(here) else 'whole', None

    def drives_neurons(self, node: Node) -> bool:
        """Return whether a neuron, or a layer, sees a value."""
        return any(user.kind != 'call' or self.drives_neurons(user) for user in self.users[node])

    def ends_network(self, node: Node) -> bool:
        """Return whether nothing but calls that move values lies between a node and the outputs."""
        users = self.users[node]
        return all(user.kind == 'call' and layout_of(user) is not None and self.ends_network(user) for user in users)

    def rounded(self, source: Value, largest: int) -> Value:
        """Return real values that drive a layer without a neuron as whole numbers, up to ``largest``."""
        source = self.membrane(source)
        worth = float(fitting_worth(self.tensors[source.name].flatten()[:, None], largest))
        step = Round(
            (source.name,),
            self.name('w'),
            scale=1 / worth,
            shift=0.0,
            low=-largest,
            high=largest,
            whole=False,
        )
        self.put(step)
        return Value(step.output, 'whole', source.worth * worth, largest)

    def fire(self, node: Node) -> Value:
        neuron = firing_of(node)
        source = self.one(node)
        most = neuron.most
        if node in self.fused:  # the layer before has rounded to its counts at once
            return Value(source.name, 'count', neuron.scale, most)
        if source.kind == 'sum' and neuron.time_steps > 1:
            source = self.sum_as_membrane(node, source)
        if source.kind == 'sum':
            ratio = np.float32(source.worth / neuron.threshold)
            # Halves are common where the ratio is a power of two; runtimes round them to even.
            half_up = neuron.half_up and math.frexp(float(ratio))[0] == 0.5 and source.halves
            step = Round(
                (source.name,),
                self.name('n'),
                scale=float(ratio),
                shift=0.5 if half_up else 0.0,
                low=0,
                high=most,
                whole=True,
            )
        else:
            source = self.membrane(source)
            if source.kind != 'membrane':
                raise refuse(node, f'its input is a {source.kind}, not a membrane')
            ratio = float(np.float32(source.worth / neuron.threshold))
            if neuron.time_steps > 1 and math.frexp(ratio)[0] != 0.5:
                raise refuse(node, f'thresholds of membranes in one ratio of {ratio:g} over time leave their grid')
            step = Fire(
                (source.name,),
                self.name('n'),
                ratio=ratio,
                max_spike_count=most,
                time_steps=neuron.time_steps,
                nudge=0.0 if source.nudged else GRID / 2 if on_finest(source) else GRID / 4,
                **self.over_time(node, neuron, source),
            )
        self.put(step)
        return Value(step.output, 'count', neuron.scale, most)

    def over_time(self, node: Node, neuron: Firing, source: Value) -> dict[str, Any]:
        """Return settings of a neuron that forgets, or whose membrane takes more digits than there are."""
        try:
            digits = neuron.digits(source.most)
        except InputError as error:
            raise refuse(node, str(error)) from error
        settings = dict(decay=neuron.decay if neuron.decay != 1 else None, resets=neuron.resets or None, digits=digits)
        return {name: value for name, value in settings.items() if value is not None}

    def sum_as_membrane(self, node: Node, source: Value) -> Value:
        """Return a sum as a membrane, whose rest a neuron can carry over."""
        threshold = firing_of(node).threshold
        limit = FURTHEST / 4 / GRID  # fires at every step, and still does when another is added
        scale = float(np.float32(source.worth / threshold / GRID))
        step = Round((source.name,), self.name('w'), scale=scale, shift=0.0, low=-limit, high=limit, whole=True)
        self.put(step)
        charge = Charge((step.output,), self.name('u'), torch.full((len_of(node),), GRID))
        self.put(charge)
        grid = finest(len_of(node))
        return Value(charge.output, 'membrane', threshold, FURTHEST / 4, True, grid, grid)

    def product(self, node: Node) -> Value:
        attention = node.module
        if isinstance(attention.product, PerSlotAttention):
            raise refuse(node, 'its attention is per slot: plans multiply counts')
        sources = [self.values[n] for n in node.inputs]
        for source in sources:
            if source.kind != 'count':
                raise refuse(node, f'it multiplies a {source.kind}, not spike counts')
        most = [int(source.most) for source in sources]
        shape = node.shape
        step = Product(
            tuple(s.name for s in sources),
            self.name('s'),
            num_heads=attention.num_heads,
            max_spike_count=most,
            widths=[n.shape[1] // attention.num_heads for n in node.inputs],
            size=list(shape[2:]),
        )
        reach = math.prod(most) * math.prod(shape[2:]) * (node.inputs[1].shape[1] // attention.num_heads)
        if reach > EXACT:
            raise refuse(node, f'sums of up to {reach} are not exact in float32, which ends at {EXACT}')
        self.put(step)
        worth = attention.product.factor(math.prod(shape[2:])) * math.prod(s.worth for s in sources)
        return Sum(step.output, 'sum', worth, reach, halves=True)

    def call(self, node: Node) -> Value:
        """Lower any other function: one that moves values, adds membranes, scales one, or averages over positions."""
        if (factor := factor_of(node)) is not None:
            return self.scaled(node, factor)
        if adds_nothing(node):
            return self.one(node)
        form = layout_of(node)
        values = [self.values[n] for n in node.inputs]
        if form is not None and form[0] == 'same':
            return values[0]
        if form is not None:
            return self.arranged(node, form, values)
        if is_sum(node):
            return self.added(node, values)
        if is_mean_over_positions(node):
            return self.pooled(values[0])
        if is_doubling(node):
            return self.resized(node, values[0])
        raise refuse(node, 'no whole-number form is known for it')

    def scaled(self, node: Node, factor: Tensor) -> Value:
        value = self.one(node)
        drive = node.inputs[0]
        if drive.kind == 'drive' and len(self.users[drive]) == 1 and factor.numel() in (1, len_of(drive)):
            return value  # folded into the layer before
        if factor.numel() != 1:
            raise refuse(node, 'a factor for each channel can only follow a layer')
        value = self.membrane(value)
        return copy_of(value, worth=value.worth * float(factor))

    def arranged(self, node: Node, form: tuple[str, dict[str, Any]], values: list[Value]) -> Value:
        function, arguments = form
        values = [self.membrane(value) for value in values]
        first = values[0]
        alike = all(v.kind == first.kind and v.worth == first.worth for v in values)
        if not alike:
            raise refuse(node, 'it joins values of different kinds or thresholds')
        before, after = node.inputs[0].shape, list(node.shape)
        factors = [new / old for new, old in zip(after[2:], before[2:])] if function == 'nearest' else []
        step = Arrange(
            tuple(v.name for v in values),
            self.name('a'),
            function=function,
            arguments=arguments,
            size=after,
            factors=factors,
        )
        self.put(step)
        grid, coarse = (
            arranged([getattr(v, name) for v in values], function, arguments, len_of(node))
            for name in ('grid', 'coarse')
        )
        most, nudged = max(v.most for v in values), all(v.nudged for v in values)
        return copy_of(first, name=step.output, most=most, nudged=nudged, grid=grid, coarse=coarse)

    def added(self, node: Node, values: list[Value]) -> Value:
        if len(values) == 1:  # x + x
            values = values * 2
        first, second = values
        if first.kind == 'increment':
            first, second = second, first
        first = self.membrane(first)
        if first.kind != 'membrane' or second.kind not in ('membrane', 'increment'):
            raise refuse(node, f'it adds a {first.kind} and a {second.kind}')
        if first.worth != second.worth:
            raise refuse(node, f'membranes in thresholds of {first.worth:g} and {second.worth:g} have no common grid')
        most = first.most + second.most
        if most >= FURTHEST:
            raise refuse(node, f'its membrane may reach {most:.0f} thresholds; up to {FURTHEST:.0f} they are exact')
        if second.kind == 'increment':
            return self.charge(first, second)
        step = Add((first.name, second.name), self.name('u'))
        self.put(step)
        grid, coarse = (a and b and a.plus(b) for a, b in ((first.grid, second.grid), (first.coarse, second.coarse)))
        nudged = grid is not None and bool(grid.off_halves.all())
        return Value(step.output, 'membrane', first.worth, most, nudged, grid, coarse)

    def pooled(self, value: Value) -> Value:
        value = self.membrane(value)
        area = math.prod(self.tensors[value.name].shape[2:])
        peak = float(self.tensors[value.name].abs().max()) * 4 + 1
        digits = min(math.floor(math.log2(EXACT / area / peak)), 12)
        limit = EXACT // area
        step = SumPositions((value.name,), self.name('s'), digits=digits, limit=limit)
        self.put(step)
        return Sum(step.output, 'sum', value.worth * 2.0**-digits / area, peak * 2**digits * area, halves=False)

    def resized(self, node: Node, value: Value) -> Value:
        value = self.membrane(value)
        size = [int(n) for n in node.shape[2:]]
        steps = sum(int(math.log2(new // old)) + 1 for new, old in zip(size, node.inputs[0].shape[2:]))
        digits = 12 - steps
        factors = [new / old for new, old in zip(size, node.inputs[0].shape[2:])]
        step = Resize((value.name,), self.name('u'), size=size, factors=factors, digits=digits)
        self.put(step)
        grid = finest(len_of(node))
        return Value(step.output, 'membrane', value.worth, value.most, True, grid, grid)

    def output(self, node: Node) -> str:
        """Return the name of an output as real numbers."""
        value = self.membrane(self.values[node])
        if value.kind == 'real':
            return value.name
        step = Scale((value.name,), self.name('o'), worth=float(np.float32(value.worth)))
        self.put(step)
        return step.output


@dataclass(frozen=True)
class Increment(Value):
    """A byte that is still to be added to a membrane, whose threshold ``worth`` is; ``own_grid``: where it lies.

    >>> Increment('y5', 'increment', worth=0.25, worth_in_thresholds=torch.tensor([0.5])).threshold
    0.25
    """

    worth_in_thresholds: Any = None
    own_grid: Any = None

    @property
    def threshold(self) -> float:
        return self.worth


@dataclass(frozen=True)
class Sum(Value):
    """A sum of whole numbers; ``halves``: whether its counts may lie exactly on a half.

    >>> Sum('s4', 'sum', worth=1 / 64, halves=True).halves
    True
    """

    halves: bool = False


def copy_of(value: Value, **changes: Any) -> Value:
    """Return a value with other fields."""
    new = copy.copy(value)
    for name, field in changes.items():
        object.__setattr__(new, name, field)
    return new


def on_finest(value: Value) -> bool:
    """Return whether a membrane is known to be of multiples of the finest step."""
    return value.grid is not None and bool(value.grid.on_finest.all())


def len_of(node: Node) -> int:
    """Return the number of channels."""
    return node.shape[1]


def kind_of(layer: nn.Module) -> str:
    """Return 'conv', 'conv_transpose' or 'linear'."""
    return 'linear' if layer.conv_args is None else 'conv_transpose' if layer.transposed else 'conv'


def plain_args(layer: nn.Module) -> dict[str, Any]:
    """Return a convolution's arguments as numbers and lists."""
    if layer.conv_args is None:
        return {}
    args = dict(layer.args_with_border)
    require(not isinstance(args['padding'], str), 'padding', args['padding'], 'numbers: words cannot be deployed')
    return {name: list(value) if isinstance(value, tuple) else value for name, value in args.items()}


def largest_input(layer: nn.Module) -> int:
    """Return up to where whole numbers may drive a layer, so that its sums stay exact with room for a bias."""
    weight = layer.weight.detach().transpose(0, int(layer.transposed)).flatten(1).double().abs()
    if not layer.integer:  # it will be rounded to integers up to half a byte
        weight = weight / weight.amax(1, keepdim=True).clamp_min(1e-30) * (LARGEST_BYTE // 2 + 1) + 0.5
    return min(LARGEST_INPUT, int(0.75 * EXACT / float(weight.sum(1).max().clamp_min(1))))


def require_foldable(node: Node) -> None:
    """Refuse a unit whose norm is no batch norm."""
    norm = node.module.norm
    if norm is not None and not isinstance(norm, _BatchNorm):
        raise refuse(node, f'its norm, {type(norm).__name__}, depends on the input; use batch norm')


def firing_of(node: Node) -> Firing:
    """Return how the neuron of a node fires.

    Raises:
        InputError: it has no form in whole numbers.
    """
    try:
        return Firing.of(node.module)
    except InputError as error:
        raise refuse(node, str(error)) from error
