"""Convolution and linear layers whose weights have few bits."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from qsdt_mm.validation import require

from .lsq import LowBitWeight


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
        return F.linear(input, self.weight_in_use, self.bias)
