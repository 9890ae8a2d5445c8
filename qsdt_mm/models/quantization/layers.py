"""Convolution and linear layers whose weights have few bits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from qsdt_mm.errors import InputError, require
from qsdt_mm.ops import compact_saving, layout

from .depthwise import depthwise_conv2d
from .lsq import QuantWeightMixin, dtype_of_use


def check_width(layer: QuantWeightMixin, expected: int, width: int) -> None:
    """Refuse an input of another width than the layer's.

    Raises:
        InputError: they differ, as when a head or neck is configured for another backbone.
    """
    if width != expected:
        raise InputError(
            f'in_channels={expected} does not fit: a {type(layer).__name__} built for {expected} channels gets '
            f'{width}; correct the in_channels of the neck or head'
        )


def low_bit(layer: nn.Module, weight_bits: int) -> QuantWeightMixin:
    """Return a low-bit layer of a layer's shape and weights.

    Args:
        layer: a convolution, transposed convolution or linear layer.
        weight_bits: 2, 3, 4, 8 or 32.

    Raises:
        TypeError: there is none for this kind of layer.
    """
    for plain, kind in ((nn.Linear, QuantLinear), (nn.ConvTranspose2d, QuantConvTranspose2d), (nn.Conv2d, QuantConv2d)):
        if isinstance(layer, plain):
            return kind.from_float(layer, weight_bits)
    raise TypeError(f'{type(layer).__name__} has no low-bit form')


def _shape(layer: nn.Module) -> tuple[tuple, dict[str, Any]]:
    """Return the constructor arguments of a layer's shape."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return (layer.in_features, layer.out_features), dict(bias=bias)
    names = ['stride', 'padding', 'dilation', 'groups', 'padding_mode']
    names += ['output_padding'] * isinstance(layer, nn.ConvTranspose2d)
    settings = {name: getattr(layer, name) for name in names}
    return (layer.in_channels, layer.out_channels, layer.kernel_size), dict(settings, bias=bias)


class _ToAndFromFloat(QuantWeightMixin):
    """Mix-in for low-bit layers that have a counterpart in ``torch.nn``."""

    float_class: type[nn.Module]

    @classmethod
    @torch.no_grad()
    def from_float(cls, layer: nn.Module, weight_bits: int = 4) -> nn.Module:
        """Return a low-bit layer of a plain one's shape and weights; its steps are LSQ's first ones."""
        args, settings = _shape(layer)
        new = cls(*args, **settings, weight_bits=weight_bits).to(layer.weight)
        new.weight.copy_(layer.weight)
        if layer.bias is not None:
            new.bias.copy_(layer.bias)
        new.reset_step()
        return new

    @torch.no_grad()
    def to_float(self) -> nn.Module:
        """Return the plain layer that computes the same: its weight is :attr:`quantized_weight`."""
        args, settings = _shape(self)
        layer = self.float_class(*args, **settings, device=self.weight.device, dtype=self.weight.dtype)
        layer.weight.copy_(self.quantized_weight)
        if self.bias is not None:
            layer.bias.copy_(self.bias)
        return layer.train(self.training)


@MODELS.register_module()
class QuantConv2d(_ToAndFromFloat, nn.Conv2d):
    """2-D convolution with LSQ weights; ``weight_bits=32`` makes it a plain ``nn.Conv2d``.

    Args:
        weight_bits: 2, 3, 4, 8 or 32. The other arguments are those of ``torch.nn.Conv2d``.

    Raises:
        ValueError: ``weight_bits`` is not one of these.

    >>> conv = QuantConv2d(3, 8, 3, padding=1, weight_bits=4)
    >>> conv(torch.ones(1, 3, 5, 5)).shape
    torch.Size([1, 8, 5, 5])
    """

    float_class = nn.Conv2d

    def __init__(self, *args, weight_bits: int = 4, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._init_quantizer(self.out_channels, weight_bits)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W) -> (N, C_out, H', W')``."""
        check_width(self, self.in_channels, input.shape[-3])
        weight = self.compute_weight
        if self.groups > 1 and layout.is_faster_in_float32(input, weight):
            return self._convolve_in_float32(input, weight)
        if self.groups > 1:
            found = depthwise_conv2d(self, input, weight, self.compute_bias, dtype_of_use(self.weight))
            if found is not None:
                return found
        return self._conv_forward(input, weight, self.compute_bias)

    def _convolve_in_float32(self, input: Tensor, weight: Tensor) -> Tensor:
        """Convolve values of half precision in float32, and round the result; keeps the values as they are kept."""
        half, wide = dtype_of_use(self.weight), input.float()
        if wide is not input:
            compact_saving.register_recompute(wide, Tensor.float, input)
        bias = None if self.bias is None else self.bias.float()
        with torch.autocast(input.device.type, enabled=False):
            return self._conv_forward(wide, weight.to(half).float(), bias).to(half)


@MODELS.register_module()
class QuantConvTranspose2d(_ToAndFromFloat, nn.ConvTranspose2d):
    """Transposed 2-D convolution with LSQ weights; ``weight_bits=32`` makes it a plain ``nn.ConvTranspose2d``.

    Args:
        weight_bits: 2, 3, 4, 8 or 32. The other arguments are those of ``torch.nn.ConvTranspose2d``; one group.

    Raises:
        ValueError: ``weight_bits`` is not one of these, or there are groups.

    >>> conv = QuantConvTranspose2d(3, 8, 2, stride=2, weight_bits=4)
    >>> conv(torch.ones(1, 3, 5, 5)).shape
    torch.Size([1, 8, 10, 10])
    """

    float_class = nn.ConvTranspose2d
    channel_dim = 1

    def __init__(self, *args, weight_bits: int = 4, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        require(self.groups == 1, 'groups', self.groups, '1')
        self._init_quantizer(self.out_channels, weight_bits)

    @property
    def fan_in(self) -> float:
        """Count the inputs that one output sums over, on average."""
        return super().fan_in / (self.stride[0] * self.stride[1])

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W) -> (N, C_out, H', W')``."""
        check_width(self, self.in_channels, input.shape[-3])
        return F.conv_transpose2d(
            input, self.quantized_weight, self.bias, self.stride, self.padding, self.output_padding, 1, self.dilation
        )


@MODELS.register_module()
class QuantLinear(_ToAndFromFloat, nn.Linear):
    """Linear layer with LSQ weights; ``weight_bits=32`` makes it a plain ``nn.Linear``.

    Args:
        weight_bits: 2, 3, 4, 8 or 32. The other arguments are those of ``torch.nn.Linear``.

    Raises:
        ValueError: ``weight_bits`` is not one of these.

    >>> linear = QuantLinear(16, 8, weight_bits=2)
    >>> len(linear.quantized_weight[0].unique()) <= 4
    True
    """

    float_class = nn.Linear

    def __init__(self, *args, weight_bits: int = 4, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._init_quantizer(self.out_features, weight_bits)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., C_in) -> (..., C_out)``."""
        check_width(self, self.in_features, input.shape[-1])
        return F.linear(input, self.compute_weight, self.compute_bias)
