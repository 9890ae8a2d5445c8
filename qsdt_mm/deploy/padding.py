"""Channels that stay silent, so that widths suit 8-bit kernels: the same bits, in less time.

Kernels of depthwise layers compute 16 channels at once and the rest one by one; those of other layers need as many to
be used at all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

from .arithmetic import ZERO
from .plan import Plan
from .steps import Add, Charge, Convolve, Fire, Resize, Round, Step, SumPositions

MULTIPLE = 16
FEWEST = 8
"""Layers with fewer channels take less time as they are."""
KEEPS_CHANNELS = (Add, Charge, Fire, Resize, Round, SumPositions)


def padded(plan: Plan) -> Plan:
    """Return a plan of the same bits, in which the channels of depthwise layers and of narrow ones number 16, 32, ...

    Those that are added hold zeros and are seen by nobody. Values that are put out, multiplied, or moved keep theirs.

    >>> import torch
    >>> from qsdt_mm.deploy.steps import Convolve
    >>> def layer(source, target, channels, **settings):
    ...     ones = torch.ones(channels)
    ...     weight = torch.ones(channels, 1 if settings['conv_args']['groups'] > 1 else 9, 1, 1, dtype=torch.int8)
    ...     return Convolve(
    ...         (source,), target, weight, ones, ones, ones, to='count', high=4, bits=4, layer='conv', source='count',
    ...         most=4, **settings)
    >>> args = dict(stride=[1, 1], padding=[0, 0], dilation=[1, 1])
    >>> steps = [layer('pixels', 'a', 9, conv_args=dict(args, groups=1)),
    ...          layer('a', 'b', 9, conv_args=dict(args, groups=9)), layer('b', 'c', 9, conv_args=dict(args, groups=1))]
    >>> [tuple(step.weight.shape[:2]) for step in padded(Plan(steps, 'c', (9, 1, 1))).steps]
    [(16, 9), (16, 1), (9, 16)]
    """
    spaces = _Spaces(plan)
    steps = [_padded(step, spaces) for step in plan.steps]
    return Plan(steps, plan.outputs, plan.shape).with_spikes(plan.spiking)


class _Spaces:
    """Which values share their channels, and how many those get."""

    def __init__(self, plan: Plan) -> None:
        self.parents: dict[str, str] = {}
        fixed = {'pixels', *tree_leaves(plan.outputs)}
        widths: dict[str, int] = {}
        depthwise: set[str] = set()
        for step in plan.steps:
            names = (*step.inputs, step.output)
            if isinstance(step, KEEPS_CHANNELS) or _is_depthwise(step):
                for name in names[1:]:
                    self.parents[self.of(name)] = self.of(names[0])
            elif not _mixes(step):
                fixed.update(names)
            if _is_depthwise(step):
                depthwise.add(step.output)
            if isinstance(step, Convolve):
                widths[step.output] = len(step.scale)
        fixed, depthwise = {self.of(name) for name in fixed}, {self.of(name) for name in depthwise}
        self.widths: dict[str, int] = {}
        for name, width in widths.items():
            space = self.of(name)
            if space not in fixed and (space in depthwise or FEWEST <= width < MULTIPLE):
                self.widths[space] = -(-width // MULTIPLE) * MULTIPLE

    def of(self, name: str) -> str:
        """Return the value that stands for all with the same channels."""
        while self.parents.setdefault(name, name) != name:
            name = self.parents[name]
        return name

    def width(self, name: str, width: int) -> int:
        """Return the number of channels that a value of so many gets."""
        return self.widths.get(self.of(name), width)


def _is_depthwise(step: Step) -> bool:
    return _is_convolution(step) and step.conv_args['groups'] == len(step.weight) > 1 == step.weight.shape[1]


def _mixes(step: Step) -> bool:
    return _is_convolution(step) and step.conv_args['groups'] == 1


def _is_convolution(step: Step) -> bool:
    return isinstance(step, Convolve) and step.layer == 'conv'


def _extended(values: Tensor, length: int, value: float) -> Tensor:
    return torch.cat([values, values.new_full((length - len(values), *values.shape[1:]), value)])


def _padded(step: Step, spaces: _Spaces) -> Step:
    width = spaces.width(step.output, 0)
    if isinstance(step, Charge):
        width, offset = width or len(step.delta), step._buffers.get('offset')
        offset = None if offset is None else _extended(offset, width, 0)
        return Charge(step.inputs, step.output, _extended(step.delta, width, 1.0), offset)
    if not _is_convolution(step):
        return step
    width, weight, settings = width or len(step.weight), step.weight, step.settings
    if _is_depthwise(step):
        settings = dict(settings, conv_args=dict(step.conv_args, groups=width))
    elif _mixes(step):
        seen = weight.shape[1]
        weight = F.pad(weight, (0, 0, 0, 0, 0, spaces.width(step.inputs[0], seen) - seen))
    return Convolve(
        step.inputs,
        step.output,
        _extended(weight, width, 0),
        _extended(step.multiplier, width, 1),
        _extended(step.bias, width, ZERO if step.to_kind == 'byte' else 0),
        _extended(step.scale, width, 1),
        **settings,
    )
