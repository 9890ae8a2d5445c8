"""Parts of other libraries made spiking: each of their layers becomes a unit."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvModule
from torch import nn

from qsdt_mm.models.neurons.rounding import rounding_follows_weights
from qsdt_mm.models.quantization import (
    LowBitWeight,
    QuantConv2d,
    QuantConvTranspose2d,
    QuantLinear,
    check_weight_bits,
    steps_follow_weights,
)
from qsdt_mm.validation import require_positive_int

from .unit import SpikeUnit, UnitFactory

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU)


def low_bit(layer: nn.Module, weight_bits: int) -> LowBitWeight:
    """A low-bit layer of the same shape.

    Raises:
        TypeError: there is none for this kind of layer.
    """
    if isinstance(layer, nn.Linear):
        return QuantLinear(layer.in_features, layer.out_features, layer.bias is not None, weight_bits=weight_bits)
    if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        raise TypeError(f'{type(layer).__name__} has no low-bit form')
    settings = dict(
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
        weight_bits=weight_bits,
    )
    kind = QuantConv2d
    if isinstance(layer, nn.ConvTranspose2d):
        kind = QuantConvTranspose2d
        settings['output_padding'] = layer.output_padding
    return kind(layer.in_channels, layer.out_channels, layer.kernel_size, **settings)


def make_spiking(module: nn.Module, factory: UnitFactory) -> None:
    """Turn every convolution and linear layer inside a module into a unit, in place; activations become identities.

    ``conv, norm, activation`` becomes ``N conv norm``, ``conv`` becomes ``N conv``: the neuron comes before.

    Args:
        module: any module; units in it are left alone.
        factory: makes neurons and says how many bits a weight has.
    """
    for name, child in module.named_children():
        if isinstance(child, SpikeUnit):
            continue
        if isinstance(child, ConvModule):
            norm = child.norm if child.with_norm else None
            setattr(module, name, SpikeUnit(factory.make_neuron(), low_bit(child.conv, factory.weight_bits), norm))
        elif isinstance(child, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            setattr(module, name, SpikeUnit(factory.make_neuron(), low_bit(child, factory.weight_bits)))
        elif isinstance(child, ACTIVATIONS):
            setattr(module, name, nn.Identity())
        else:
            make_spiking(child, factory)


class UnitsDraw:
    """Mix-in, before :class:`SpikingPart`: no ``init_cfg`` by default, for units draw weights that drive neurons.

    The libraries' own (Xavier, a deviation of 0.01) suit activations without a threshold and leave neurons silent.
    """

    def __init__(self, *args: Any, init_cfg: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, init_cfg=init_cfg, **kwargs)


class SpikingPart:
    """Mix-in for necks and heads of other libraries: their layers become units when they have been built.

    Args:
        args, kwargs: those of the library's class.
        neuron: config of the neurons, without D; ``dict(rounding=...)`` changes the usual one.
        levels: D.
        weight_bits: 2, 3, 4, 8 or 32.

    Raises:
        ValueError: an argument is out of range.
    """

    NEURON: dict[str, Any] = dict(type='IELIF', threshold=1.0, scale=1.0, rounding='half_even')

    def __init__(
        self, *args: Any, neuron: dict[str, Any] | None = None, levels: int = 4, weight_bits: int = 32, **kwargs: Any
    ) -> None:
        require_positive_int('levels', levels)
        check_weight_bits(weight_bits)
        super().__init__(*args, **kwargs)
        make_spiking(self, UnitFactory(neuron, levels, 1, weight_bits, preset=self.NEURON))

    def init_weights(self) -> None:
        """Apply ``init_cfg``; LSQ steps follow the weights."""
        with steps_follow_weights(self), rounding_follows_weights(self):
            super().init_weights()
