"""Steps of a plan: all values are whole numbers or multiples of a power of two, all sums are exact.

=========  ==================================================================================================
kind       what a value holds
=========  ==================================================================================================
pixels     the image, whole numbers of 0 to 255
whole      whole numbers, at most 16 bits with sign
count      spike counts, 0 to D
byte       whole numbers from -127 to 127: an increment of a membrane, or what flows inside a chain of layers
membrane   multiples of 2^-13, in thresholds
sum        whole numbers up to 2^24: a product of spikes, or a sum over positions
real       what the network puts out
=========  ==================================================================================================

The only roundings are to the nearest whole number. Where a sum is rounded it is never half way between two, so that no
rule on halves matters; elsewhere one product of float32 comes before, and halves go to even. So the order of a sum,
fused operations and the width of what carries it do not matter: every runtime gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qsdt_mm.inference import int8
from qsdt_mm.inference.slots import product_over_slots, sum_over_slots
from qsdt_mm.models.layers import linear_attention
from qsdt_mm.models.layers.attention import keys_first

EXACT = 2**24
"""Up to here every whole number is a float32."""
GRID = 2.0**-12
"""Finest increment of a membrane, in thresholds; half of it, added once, keeps membranes off halves."""


class Step(nn.Module):
    """A step of a plan: maps named values to one named value.

    Args:
        inputs: names of the values that it takes.
        output: name of the value that it makes.
        settings: what, beside its buffers, says what the step does; numbers, strings and lists only.

    >>> class Negate(Step):
    ...     def forward(self, values):
    ...         return -values
    >>> step = Negate(('a',), 'b')
    >>> step.inputs, step.output, step(torch.ones(1)).item()
    (('a',), 'b', -1.0)
    """

    def __init__(self, inputs: tuple[str, ...], output: str, **settings: Any) -> None:
        super().__init__()
        self.inputs, self.output, self.settings = tuple(inputs), output, settings

    def __getattr__(self, name: str) -> Any:
        settings = self.__dict__.get('settings', {})
        return settings[name] if name in settings else super().__getattr__(name)

    def hold(self, **buffers: Tensor) -> None:
        """Keep tensors, which move with the plan."""
        for name, value in buffers.items():
            self.register_buffer(name, value.contiguous())

    def extra_repr(self) -> str:
        return ', '.join([f'{" ".join(self.inputs)} -> {self.output}', *(f'{k}={v}' for k, v in self.settings.items())])


def by_channel(values: Tensor, like: Tensor) -> Tensor:
    """View values ``(C,)`` so that they go with ``(N, C, ...)``."""
    return values.view(-1, *[1] * (like.dim() - 2))


def rounded_to(values: Tensor, digits: int) -> Tensor:
    """Round to so many binary digits below one, halves to even."""
    return (values * 2.0**digits).round() * 2.0**-digits


class Normalise(Step):
    """``x = rne(gain * pixels + offset)``, exact before it is rounded: the image less its mean, in its deviation.

    >>> step = Normalise(('pixels',), 'image', gain=torch.tensor([0.5]), offset=torch.tensor([-64.0]))
    >>> step(torch.tensor([[[[0, 128, 255]]]])).flatten().tolist()
    [-64.0, 0.0, 64.0]
    """

    def __init__(self, inputs: tuple[str, ...], output: str, gain: Tensor, offset: Tensor) -> None:
        super().__init__(inputs, output)
        self.hold(gain=gain.float(), offset=offset.float())

    def forward(self, pixels: Tensor) -> Tensor:
        values = pixels.float()
        if values.dim() == 4:  # as 8-bit convolutions put them out: sums of values in two layouts are slow
            values = values.contiguous(memory_format=torch.channels_last)
        return (values * self.gain.view(-1, 1, 1)).add_(self.offset.view(-1, 1, 1)).round_()


class Convolve(Step):
    """``y = clip(rne((W x + bias) * scale), low, high)`` with whole W, x and bias; a linear layer, too.

    ``W = weight * multiplier``: the integers of few bits, times a sign and a power of two for each output channel.

    Args:
        weight: int8, in the layer's own shape.
        multiplier, bias: whole numbers ``(C_out,)``.
        scale: float32 ``(C_out,)``, ``M * 2^-e``.
        to: kind of the result: 'count', 'byte', 'whole' or 'real' (then nothing is rounded or clipped).
        high: the highest count.
        bits: of the integers.
        layer: 'conv', 'conv_transpose' or 'linear'.
        conv_args: of the convolution.
        source: kind of the input: 'count', 'byte' or 'whole'.
        most: the largest magnitude of the input.

    >>> one = torch.ones(1)
    >>> step = Convolve(
    ...     ('n',), 'y', torch.tensor([[[[1, -2]]]], dtype=torch.int8), multiplier=one, bias=3 * one, scale=0.5 * one,
    ...     to='count', high=4, bits=4, layer='conv', source='count', most=4,
    ...     conv_args=dict(stride=[1, 1], padding=[0, 0], dilation=[1, 1], groups=1))
    >>> step(torch.tensor([[[[4.0, 1.0, 0.0]]]])).flatten().tolist()  # (4 - 2 + 3) / 2 and (1 + 3) / 2, halves to even
    [2.0, 2.0]
    """

    def __init__(
        self,
        inputs: tuple[str, ...],
        output: str,
        weight: Tensor,
        multiplier: Tensor,
        bias: Tensor,
        scale: Tensor,
        **settings: Any,
    ) -> None:
        super().__init__(inputs, output, **settings)
        self.hold(weight=weight, multiplier=multiplier.to(torch.int32), bias=bias.to(torch.int32), scale=scale.float())
        self._packed: tuple | None = None

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__, _packed=None)

    @property
    def limits(self) -> tuple[int, int] | None:
        """Return the lowest and highest result."""
        return dict(count=(0, self.high), byte=(1, 255), whole=(-(2**15) + 1, 2**15 - 1)).get(self.to_kind)

    @property
    def to_kind(self) -> str:
        return self.settings['to']

    @property
    def whole_weight(self) -> Tensor:
        """Return W, int8, in the layer's own shape."""
        dim = int(self.layer == 'conv_transpose')
        multiplier = self.multiplier.view(*[1] * dim, -1, *[1] * (self.weight.dim() - 1 - dim))
        return (self.weight.int() * multiplier).to(torch.int8)

    def linear(self, values: Tensor) -> Tensor:
        """Compute ``W x`` in the type of x."""
        weight = self.whole_weight.to(values.dtype)
        if self.layer == 'linear':
            return F.linear(values, weight)
        return (F.conv_transpose2d if self.layer == 'conv_transpose' else F.conv2d)(values, weight, **self.conv_args)

    def sums(self, values: Tensor, spiking: bool) -> Tensor:
        """Compute ``W x`` exactly."""
        if spiking and self.source == 'count':
            return sum_over_slots(self.linear, self.carried(values), self.most)
        if self.takes_int8(values):
            state = self.weight._version, values.shape
            if self._packed is None or self._packed[0] != state:
                self._packed = state, int8.pack(self.whole_weight, self.conv_args, values.shape)
            return int8.sums(values, self._packed[1], self.conv_args, self.source == 'byte')
        return self.linear(self.carried(values))

    def carried(self, values: Tensor) -> Tensor:
        """Convert values to the type that sums them: on a GPU TF32, Winograd or FFT may round float32, not float64."""
        return values.to(torch.float64 if values.is_cuda else torch.float32)

    def takes_int8(self, values: Tensor) -> bool:
        """Return whether 8-bit convolutions are at hand and exact."""
        return (
            self.layer == 'conv'
            and self.source in ('count', 'byte')
            and values.device.type == 'cpu'
            and int8.is_available()
        )

    def forward(self, values: Tensor, spiking: bool = False) -> Tensor:
        sums = self.sums(values, spiking)
        # In place: most of the time goes into passes over memory.
        result = sums.float().add_(by_channel(self.bias.float(), sums)).mul_(by_channel(self.scale, sums))
        if self.limits:
            result.round_().clamp_(*self.limits)
        return result.sub_(128) if self.to_kind == 'byte' else result


class Charge(Step):
    """``x + delta * y + offset``: an increment, added to a membrane, or where there is none to nothing.

    Args:
        delta: what one unit of the increment is worth, ``(C,)``.
        offset: in half steps of the grid, whole numbers ``(C,)``: bytes that were rounded down are worth half a unit
            more. Where it is not said, half a step where there is no membrane, else none.

    >>> step = Charge(('u', 'y'), 'v', delta=torch.tensor([0.25]))
    >>> step(torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), -2.0)).item()
    0.5
    >>> Charge(('y',), 'v', torch.tensor([0.25]), offset=torch.tensor([1024]))(torch.ones(1, 1, 1, 1)).item()
    0.375
    """

    def __init__(self, inputs: tuple[str, ...], output: str, delta: Tensor, offset: Tensor | None = None) -> None:
        super().__init__(inputs, output)
        self.hold(delta=delta.float())
        if offset is not None:
            self.hold(offset=offset.to(torch.int32))

    @property
    def added(self) -> Tensor | float:
        """Return what is added beside the increment, in thresholds."""
        offset = self._buffers.get('offset')
        return GRID / 2 * (len(self.inputs) == 1) if offset is None else offset.float() * (GRID / 2)

    def forward(self, *values: Tensor) -> Tensor:
        *membrane, increment = values
        delta, added = by_channel(self.delta, increment), self.added
        added = by_channel(added, increment) if isinstance(added, Tensor) else added
        if not membrane:
            return (increment * delta).add_(added)
        charged = torch.addcmul(membrane[0], increment, delta)
        return charged.add_(added) if 'offset' in self._buffers else charged


class Fire(Step):
    """``n = clip(rne(ratio * u), 0, D)``, at each time step of what is left over: ``u = h + x``.

    ``h = decay * (u - n / ratio)``; with hard reset ``h = decay * u`` where n is 0, else 0.

    Args:
        ratio: thresholds of this neuron in one of the membrane.
        max_spike_count: D.
        time_steps: T, folded into the batch, time first.
        nudge: added to the membrane where sums of several have put it back on the grid.
        decay: share that is carried over, a multiple of a power of two; 1 where it is not said.
        resets: whether nothing is carried over after a spike.
        digits: binary digits of a membrane that are kept over time; all where it is not said.

    >>> step = Fire(('u',), 'n', ratio=1.0, max_spike_count=4, time_steps=2, nudge=0.0)
    >>> step(torch.tensor([[1.25], [0.375]])).tolist()  # 0.25 is carried over
    [[1.0], [1.0]]
    """

    def forward(self, membrane: Tensor) -> Tensor:
        if self.nudge:
            membrane = membrane + self.nudge
        if self.time_steps == 1:
            return self.count(membrane)
        decay, resets, digits = (self.settings.get(name) for name in ('decay', 'resets', 'digits'))
        if self.coarse:  # beside halves again
            membrane = rounded_to(membrane, digits - 1) + 2.0**-digits
        carried, counts = 0, []
        for current in membrane.chunk(self.time_steps):
            current = current + carried
            counts.append(self.count(current))
            carried = current * (1 - counts[-1]) if resets else current - counts[-1] / self.ratio
            carried = carried if decay is None else carried * decay
            carried = carried if digits is None else rounded_to(carried, digits)
        return torch.cat(counts)

    @property
    def coarse(self) -> bool:
        """Return whether membranes have more digits than are kept."""
        digits = self.settings.get('digits')
        return digits is not None and 2.0 ** (1 - digits) > GRID

    def count(self, membrane: Tensor) -> Tensor:
        """Count the spikes of one time step."""
        if self.ratio != 1:
            membrane = membrane * torch.full((), self.ratio, dtype=membrane.dtype, device=membrane.device)
        return membrane.round().clamp_(0, self.max_spike_count)


class Product(Step):
    """``v k^T q`` of counts ``(N, C, H, W)``, a sum of whole numbers.

    Args:
        num_heads: heads of the attention.
        max_spike_count: D of query, key and value.
        widths: their channels in a head.
        size: ``[H, W]`` of the images that the plan was made with.

    >>> step = Product(('q', 'k', 'v'), 's', num_heads=1, max_spike_count=[4, 4, 4], widths=[2, 2, 2], size=[1, 3])
    >>> counts = torch.ones(1, 2, 1, 3)
    >>> step(counts, counts, 2 * counts)[0, 0, 0, 0].item()  # 2 * 3 tokens * 2 channels
    12.0
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, spiking: bool = False) -> Tensor:
        place, dtype = value.shape[2:], value.dtype
        if value.is_cuda:
            query, key, value = query.double(), key.double(), value.double()
        query, key, value = (x.flatten(2).unflatten(1, (self.num_heads, -1)) for x in (query, key, value))
        sums = self.slots(query, key, value) if spiking else linear_attention(query, key, value)
        return sums.flatten(1, 2).unflatten(2, place).to(dtype)

    def slots(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Compute the same from binary spikes."""
        most = max(self.max_spike_count)

        def with_spikes(linear: Callable[[Tensor], Tensor], counts: Tensor) -> Tensor:
            return sum_over_slots(linear, counts, most)

        if keys_first(key, value):
            inner = product_over_slots(lambda v, k: v @ k.mT, value, key, most)
            return with_spikes(lambda spikes: inner @ spikes, query)
        inner = product_over_slots(lambda k, q: k.mT @ q, key, query, most)
        return with_spikes(lambda spikes: spikes @ inner, value)


class SumPositions(Step):
    """``sum over H, W of clip(rne(u * 2^digits))``: a mean over positions before its division, exact.

    Args:
        digits: binary digits of a membrane that are kept.
        limit: the largest magnitude that is kept.

    >>> step = SumPositions(('u',), 's', digits=2, limit=100)
    >>> step(torch.tensor([[[[0.25, 0.5]]]])).item()
    3.0
    """

    def forward(self, membrane: Tensor) -> Tensor:
        kept = (membrane * 2.0**self.digits).round().clamp(-self.limit, self.limit)
        return kept.sum((2, 3), keepdim=True)


class Round(Step):
    """``clip(rne((x + shift) * scale), low, high)``: a sum to a count, or to whole numbers of few digits.

    Args:
        scale: one product of float32.
        shift: 1/2 where halves go up; else 0.
        low, high: limits.
        whole: whether the values are whole numbers.

    >>> step = Round(('s',), 'n', scale=0.25, shift=0.5, low=0, high=4, whole=True)
    >>> step(torch.tensor([6.0, 100.0])).tolist()
    [2.0, 4.0]
    """

    def forward(self, values: Tensor) -> Tensor:
        scale = torch.full((), self.scale, dtype=torch.float32, device=values.device)
        values = values + self.shift if self.shift else values
        return (values * scale).round_().clamp_(self.low, self.high)


class Resize(Step):
    """Bilinear resizing of a membrane, which is rounded to ``digits`` first: its weights are then exact.

    Args:
        size: ``(H, W)`` of the result, a multiple by a power of two.
        factors: by which height and width grow.
        digits: binary digits that are kept.

    >>> step = Resize(('u',), 'v', size=[2, 2], factors=[2.0, 2.0], digits=8)
    >>> step(torch.ones(1, 1, 1, 1)).shape
    torch.Size([1, 1, 2, 2])
    """

    def forward(self, membrane: Tensor) -> Tensor:
        kept = rounded_to(membrane, self.digits)
        return F.interpolate(kept, tuple(self.size), mode='bilinear', align_corners=False) + GRID / 2


class Add(Step):
    """The sum of two membranes.

    >>> Add(('u', 'v'), 'w')(torch.tensor([0.5]), torch.tensor([0.25])).item()
    0.75
    """

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return first + second


class Scale(Step):
    """``x * worth``: what a value is worth as a real number, for an output.

    >>> Scale(('u',), 'output', worth=0.25)(torch.tensor([2.0])).item()
    0.5
    """

    def forward(self, values: Tensor) -> Tensor:
        return values * torch.full((), self.worth, dtype=torch.float32, device=values.device)


class Arrange(Step):
    """A function of torch that moves values and changes none.

    Args:
        function: its name, a key of :data:`qsdt_mm.deploy.layouts.LAYOUTS`.
        arguments: of the function, beside the values.
        size: of the result, with any batch.
        factors: by which height and width grow.

    >>> step = Arrange(('u',), 'v', function='flatten', arguments=dict(start=1, end=-1), size=[1, 6], factors=[])
    >>> step(torch.ones(1, 2, 3)).shape
    torch.Size([1, 6])
    """

    def forward(self, *values: Tensor) -> Tensor:
        from .layouts import LAYOUTS

        return LAYOUTS[self.function](*values, **self.arguments)
