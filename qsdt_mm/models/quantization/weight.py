"""The weight of a layer as integers and steps: one value to compute with, to pack and to write to files."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qsdt_mm.errors import require

WEIGHT_BITS = (2, 3, 4, 8, 32)
"""Allowed widths of a weight; 32 switches quantization off."""


def check_weight_bits(weight_bits: int) -> None:
    """Raise ``ValueError`` unless ``weight_bits`` is one of :data:`WEIGHT_BITS`."""
    require(
        weight_bits in WEIGHT_BITS and not isinstance(weight_bits, bool),
        'weight_bits',
        weight_bits,
        f'one of {", ".join(map(str, WEIGHT_BITS))} (32 = not quantized)',
    )


def quant_range(bits: int) -> tuple[int, int]:
    """Return the lowest and highest integer of a signed ``bits``-wide weight."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


@dataclass(frozen=True)
class QuantizedWeight:
    """Integers times one step per output channel: ``w = integers * step``.

    Args:
        integers: int8, in the layer's own shape: ``(C_out, C_in / groups, ...)``, of a transposed convolution
            ``(C_in, C_out, ...)``.
        step: float64, ``(C_out,)``, positive.
        bits: width of the integers.
        channel_dim: dimension of ``integers`` that holds the output channels: 1 of a transposed convolution, else 0.

    >>> weight = QuantizedWeight(torch.tensor([[1, -2]], dtype=torch.int8), torch.tensor([0.5]).double(), bits=2)
    >>> weight.dequantize().tolist()
    [[0.5, -1.0]]
    """

    integers: Tensor
    step: Tensor
    bits: int
    channel_dim: int = 0

    @property
    def by_channel(self) -> Tensor:
        """View the integers as ``(C_out, ...)``."""
        return self.integers.transpose(0, self.channel_dim)

    def dequantize(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return the weight as real numbers, in the layer's own shape."""
        return (self.integers.double() * along(self.step, self.integers.dim(), self.channel_dim)).to(dtype)


def along(values: Tensor, dims: int, dim: int) -> Tensor:
    """View values ``(C,)`` as ``(1, ..., C, ..., 1)`` with so many dimensions, C at ``dim``."""
    return values.view(*[1] * dim, -1, *[1] * (dims - 1 - dim))


def channel_dim(layer: nn.Module) -> int:
    """Return the dimension of a layer's weight that holds its output channels."""
    return int(isinstance(layer, nn.modules.conv._ConvTransposeNd))


@torch.no_grad()
def quantize_symmetrically(weight: Tensor, bits: int, channel_dim: int = 0) -> QuantizedWeight:
    """Quantize real weights by the largest of each output channel: ``step = max|w| / Qp``, ``Qp = 2^(b-1) - 1``.

    Args:
        weight: in the layer's own shape.
        bits: 2, 3, 4 or 8.
        channel_dim: dimension that holds the output channels.

    Raises:
        ValueError: ``bits`` is not one of these.
    """
    check_weight_bits(bits)
    require(bits < 32, 'weight_bits', bits, '2, 3, 4 or 8')
    low, high = quant_range(bits)
    weight = weight.detach().double()
    step = weight.transpose(0, channel_dim).abs().flatten(1).amax(1) / high
    step = torch.where(step > 0, step, torch.ones_like(step))
    integers = (weight / along(step, weight.dim(), channel_dim)).round().clamp(low, high).to(torch.int8)
    return QuantizedWeight(integers.contiguous(), step, bits, channel_dim)
