"""Convolution and linear layers whose weights have few bits."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from qsdt_mm.engine.errors import InputError
from qsdt_mm.validation import require

from .lsq import LowBitWeight


def check_width(layer: LowBitWeight, expected: int, width: int) -> None:
    """Refuse an input of another width than the layer's.

    Raises:
        InputError: they differ, as when a head or neck is configured for another backbone.
    """
    if width != expected:
        raise InputError(
            f'in_channels={expected} does not fit: a {type(layer).__name__} built for {expected} channels gets '
            f'{width}; correct the in_channels of the neck or head'
        )


@MODELS.register_module()
class QuantConv2d(LowBitWeight, nn.Conv2d):
    """2-D convolution with LSQ weights; ``weight_bits=32`` makes it a plain ``nn.Conv2d``.

    Args:
        weight_bits: 2, 3, 4, 8 or 32. The other arguments are those of ``torch.nn.Conv2d``.

    Raises:
        ValueError: ``weight_bits`` is not one of these.
    """

    def __init__(self, *args, weight_bits: int = 4, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._init_quantizer(self.out_channels, weight_bits)

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C_in, H, W) -> (N, C_out, H', W')``."""
        check_width(self, self.in_channels, input.shape[-3])
        return self._conv_forward(input, self.weight_in_use, self.bias)


@MODELS.register_module()
class QuantConvTranspose2d(LowBitWeight, nn.ConvTranspose2d):
    """Transposed 2-D convolution with LSQ weights; ``weight_bits=32`` makes it a plain ``nn.ConvTranspose2d``.

    Args:
        weight_bits: 2, 3, 4, 8 or 32. The other arguments are those of ``torch.nn.ConvTranspose2d``; one group.

    Raises:
        ValueError: ``weight_bits`` is not one of these, or there are groups.
    """

    channel_dim = 1

    def __init__(self, *args, weight_bits: int = 4, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        require(self.groups == 1, 'groups', self.groups, '1')
        self._init_quantizer(self.out_channels, weight_bits)

    @property
    def fan_in(self) -> float:
        """Inputs that one output sums over, on average."""
        return super().fan_in / (self.stride[0] * self.stride[1])

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C_in, H, W) -> (N, C_out, H', W')``."""
        check_width(self, self.in_channels, input.shape[-3])
        return F.conv_transpose2d(
            input, self.quantized_weight, self.bias, self.stride, self.padding, self.output_padding, 1, self.dilation
        )


@MODELS.register_module()
class QuantLinear(LowBitWeight, nn.Linear):
    """Linear layer with LSQ weights; ``weight_bits=32`` makes it a plain ``nn.Linear``.

    Args:
        weight_bits: 2, 3, 4, 8 or 32. The other arguments are those of ``torch.nn.Linear``.

    Raises:
        ValueError: ``weight_bits`` is not one of these.
    """

    def __init__(self, *args, weight_bits: int = 4, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._init_quantizer(self.out_features, weight_bits)

    def forward(self, input: Tensor) -> Tensor:
        """``(..., C_in) -> (..., C_out)``."""
        check_width(self, self.in_features, input.shape[-1])
        return F.linear(input, self.weight_in_use, self.bias)
