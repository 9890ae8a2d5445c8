"""Synapses and attention that sum integers exactly, over counts or over binary slots, with the same bits.

The bits do not depend on the device: what is not a sum of integers is done element by element, in types that are not
chosen by device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qsdt_mm.compat.compiling import is_compiling
from qsdt_mm.compat.renamed import refuse_old_names
from qsdt_mm.compat.tracing import is_recording
from qsdt_mm.errors import require
from qsdt_mm.models.layers import linear_attention
from qsdt_mm.models.layers.attention import factor_for, keys_first
from qsdt_mm.models.quantization import QuantizedWeight
from qsdt_mm.ops import layout

from . import int8
from .slots import product_over_slots, slots, sum_over_slots
from .splitting import EXACT, on_device, split_sums

__getattr__ = refuse_old_names(__name__, 'carrier_for')


def accumulator_dtype_for(bound: int) -> torch.dtype:
    """Return the narrowest floating type that carries all integers up to ``bound`` exactly.

    Raises:
        OverflowError: there is none.
    """
    for dtype, limit in EXACT.items():
        if bound <= limit:
            return dtype
    raise OverflowError(f'sums of up to {bound} cannot be carried exactly: float64 ends at {2**53}')


class FoldedLayer(nn.Module):
    """A convolution or linear layer, and what follows it, as ``y = gain * (W x) + offset``.

    Args:
        layer: the convolution or linear layer, for its shape.
        weight: W: integers (their steps are in ``gain``), or float64 for real weights.
        gain, offset: float64, one for each output channel.
        border: rows and columns of zeros put around ``W x``.

    >>> gain, offset = torch.tensor([2.0]).double(), torch.tensor([1.0]).double()
    >>> FoldedLayer(nn.Linear(3, 1), torch.ones(1, 3).double(), gain, offset)(torch.ones(1, 3)).item()  # 2 * 3 + 1
    7.0
    """

    def __init__(
        self, layer: nn.Module, weight: QuantizedWeight | Tensor, gain: Tensor, offset: Tensor, border: int = 0
    ) -> None:
        super().__init__()
        self.integer = isinstance(weight, QuantizedWeight)
        self.weight_bits = weight.bits if self.integer else 32
        # The largest magnitude of a sum over inputs of at most 1, from the weights themselves.
        self.max_abs_sum = int(weight.by_channel.flatten(1).long().abs().sum(1).max()) if self.integer else None
        weight = weight.integers if self.integer else weight
        mode = getattr(layer, 'padding_mode', 'zeros')
        require(mode == 'zeros', 'padding_mode', mode, 'zeros: other paddings cannot be folded')
        self.conv_args = None
        self.transposed = isinstance(layer, nn.ConvTranspose2d)
        if not isinstance(layer, nn.Linear):
            names = ('stride', 'padding', 'dilation', 'groups', *(('output_padding',) if self.transposed else ()))
            self.conv_args = {name: getattr(layer, name) for name in names}
        # Only a pointwise convolution makes of a border of zeros what the unit wants there: zeros.
        pointwise = self.conv_args is not None and weight.shape[2:] == (1, 1) and set(self.conv_args['stride']) == {1}
        require(
            not border or pointwise, 'synapse', f'BNAndPad after {layer}', 'a pointwise convolution before BNAndPad'
        )
        self.border = border
        self._packed = None
        # Parameters, by which tools find a network's device and count its size; never trained.
        self.weight, self.gain, self.offset = (
            nn.Parameter(values.detach(), requires_grad=False) for values in (weight, gain, offset)
        )

    @property
    def args_with_border(self) -> dict[str, Any]:
        """Return the convolution's arguments, the border among its padding."""
        padding = self.conv_args['padding']
        return dict(self.conv_args, padding=tuple(p + self.border for p in padding) if self.border else padding)

    def linear(self, values: Tensor) -> Tensor:
        """Compute ``W x`` in the type of ``x``, with its border."""
        weight = self.weight.to(values.dtype)
        if self.conv_args is None:
            return F.linear(values, weight)
        return self.bordered((F.conv_transpose2d if self.transposed else F.conv2d)(values, weight, **self.conv_args))

    def bordered(self, sums: Tensor) -> Tensor:
        """Pad ``sums`` with the border of zeros, which a convolution would sum to the same at a cost."""
        return F.pad(sums, [self.border] * 4) if self.border else sums

    def takes_int8(self, max_spike_count: int | None, values: Tensor) -> bool:
        """Return whether ``W n`` of counts up to D is exact in 8-bit operands and float32 results, and available."""
        return (
            max_spike_count is not None
            and self.integer
            and max_spike_count <= int8.MOST
            and max_spike_count * self.max_abs_sum <= EXACT[torch.float32]
            and self.conv_args is not None
            and not self.transposed
            and not isinstance(self.conv_args['padding'], str)
            and values.device.type == 'cpu'
            and values.dim() == 4
            and not (is_recording() or is_compiling())  # packed weights can be saved in no graph
            and int8.is_available()
        )

    def linear_int8(self, count: Tensor) -> Tensor:
        """Compute ``W n`` in float32, with its border; see :meth:`takes_int8`."""
        state = self.weight._version, count.shape
        if self._packed is None or self._packed[0] != state:
            self._packed = state, int8.pack(self.weight, self.conv_args, count.shape)
        return self.bordered(int8.sums(count, self._packed[1], self.conv_args))

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__, _packed=None)  # packed weights cannot be copied

    def affine(self, sums: Tensor) -> Tensor:
        """Compute ``gain * sums + offset``, in place."""
        shape = (-1,) if self.conv_args is None else (-1, 1, 1)
        return sums.mul_(self.gain.to(sums.dtype).view(shape)).add_(self.offset.to(sums.dtype).view(shape))

    def forward(self, values: Tensor) -> Tensor:
        """Compute ``y`` for real-valued ``x``; with integer weights the same bits on every device."""
        if self.integer:
            sums = split_sums(self.linear, values, self.max_abs_sum)
        else:
            sums = self.linear(values.to(on_device(values.dtype, values)))
        return self.affine(sums).to(values.dtype)

    def extra_repr(self) -> str:
        return f'weight={tuple(self.weight.shape)} {str(self.weight.dtype)[6:]}, border={self.border}'


class ExactSynapse(nn.Module):
    """A unit's synapse and norm: exact sums over spikes in its first layer, and real values in what is chained to it.

    Args:
        layers: the folded layers, in order.
        max_spike_count: D of the neuron before it; None where the input is an image.
        spiking: sum over binary slots rather than over counts.
        coding: of the slots, 'unary' or 'bitwise'.

    Shapes: counts ``(N, C_in, ...)`` in, membrane potentials ``(N, C_out, ...)`` out.

    >>> weight = QuantizedWeight(torch.tensor([[1, -2]], dtype=torch.int8), torch.ones(1).double(), bits=2)
    >>> layer = FoldedLayer(nn.Linear(2, 1), weight, gain=torch.tensor([0.5]).double(), offset=torch.ones(1).double())
    >>> ExactSynapse([layer], max_spike_count=4, spiking=True)(torch.tensor([[3.0, 1.0]])).item()
    1.5
    """

    is_converted = True
    coding = 'unary'

    def __init__(
        self, layers: Sequence[FoldedLayer], max_spike_count: int | None, spiking: bool, coding: str = 'unary'
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.max_spike_count = max_spike_count
        self.spiking = spiking
        self.coding = coding
        first = layers[0]
        # Real weights have no exact sum: float64 leaves an error far below that of the membrane's own type.
        self.accumulator_dtype = (
            accumulator_dtype_for(max_spike_count * first.max_abs_sum)
            if max_spike_count and first.integer
            else torch.float64
        )

    def sums(self, count: Tensor) -> Tensor:
        """Compute ``W n`` of the first layer."""
        first = self.layers[0]
        if not self.spiking and first.takes_int8(self.max_spike_count, count):
            return first.linear_int8(count)
        count = count.to(on_device(self.accumulator_dtype, count))
        if self.spiking:
            return sum_over_slots(first.linear, count, self.max_spike_count, self.coding)
        return first.linear(count)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map counts, or an image, to membrane potentials."""
        first, *chained = self.layers
        if self.max_spike_count is None:
            membrane = first(inputs)
        else:
            sums = self.sums(inputs)
            wide = torch.promote_types(
                self.accumulator_dtype, inputs.dtype
            )  # not that of the sums, which depends on the device
            membrane = first.affine(sums.to(wide)).to(inputs.dtype)
        # So that what comes after rounds alike, whatever made the sums.
        membrane = layout.to_preferred_memory_format(membrane)
        for layer in chained:
            membrane = layer(membrane)
        return membrane

    def extra_repr(self) -> str:
        coded = f', coding={self.coding}' if self.spiking else ''
        dtype = str(self.accumulator_dtype)[6:]
        return f'D={self.max_spike_count}, spiking={self.spiking}{coded}, accumulator_dtype={dtype}'


class ExactAttention(nn.Module):
    """``scale * q k^T v`` of counts, as one exact sum of integers.

    Over slots, the first product accumulates as :func:`~qsdt_mm.inference.slots.product_over_slots` says, and in the
    second each slot selects rows of its result.

    Args:
        scale: worth of one unit of the sum, of ``usual_tokens`` tokens if they are given.
        max_spike_count: D of query, key and value.
        spiking: sum over binary slots rather than over counts.
        coding: of the slots, 'unary' or 'bitwise'.
        per_slot: sum the products of each unary slot with its own alone, in either form.
        usual_tokens: as for :class:`~qsdt_mm.models.layers.attention.LinearAttention`.

    >>> counts = torch.ones(1, 2, 8, 16)  # 16 tokens, 2 heads of 8 channels
    >>> attention = ExactAttention(scale=0.25, max_spike_count=(4, 4, 4), spiking=True)
    >>> attention(counts, counts, counts)[0, 0, 0, 0].item()  # 0.25 * 16 tokens * 8 channels
    32.0
    """

    coding = 'unary'
    per_slot = False
    usual_tokens = None

    def __init__(
        self,
        scale: float,
        max_spike_count: tuple[int, int, int],
        spiking: bool,
        coding: str = 'unary',
        per_slot: bool = False,
        usual_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.scale, self.per_slot, self.usual_tokens = scale, per_slot, usual_tokens
        self.max_spike_count = max_spike_count
        self.spiking = spiking
        self.coding = coding

    def bound(self, key: Tensor) -> int:
        """Return the largest possible sum: ``D_q D_k D_v`` times channels of a head times tokens."""
        query_most, key_most, value_most = self.max_spike_count
        return query_most * key_most * value_most * key.shape[-2] * key.shape[-1]

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map ``(B, heads, C, L)`` counts each to the membrane potential ``(B, heads, C_v, L)``."""
        dtype = query.dtype
        accumulator_dtype = accumulator_dtype_for(self.bound(key))
        query, key, value = (x.to(on_device(accumulator_dtype, x)) for x in (query, key, value))
        if self.per_slot:
            streams = (slots(x, most) for x, most in zip((query, key, value), self.max_spike_count))
            sums = sum(linear_attention(*spikes) for spikes in zip(*streams))
        else:
            sums = self._slots(query, key, value) if self.spiking else linear_attention(query, key, value)
        factor = factor_for(self.scale, self.usual_tokens, key.shape[-1])
        return (sums.to(torch.promote_types(accumulator_dtype, dtype)) * factor).to(dtype)

    def _slots(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query_most, key_most, value_most = self.max_spike_count
        if keys_first(key, value):
            inner = product_over_slots(lambda v, k: v @ k.mT, value, key, max(key_most, value_most), self.coding)
            return sum_over_slots(lambda spikes: inner @ spikes, query, query_most, self.coding)
        inner = product_over_slots(lambda k, q: k.mT @ q, key, query, max(key_most, query_most), self.coding)
        return sum_over_slots(lambda spikes: spikes @ inner, value, value_most, self.coding)

    def extra_repr(self) -> str:
        coded = f', coding={self.coding}' if self.spiking else ''
        apart = ', per_slot=True' if self.per_slot else ''
        return f'scale={self.scale:g}, D={self.max_spike_count}, spiking={self.spiking}{coded}{apart}'
