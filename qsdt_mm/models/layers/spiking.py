"""Spiking versions of other libraries' parts: each of their layers becomes a unit."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvModule
from torch import nn

from qsdt_mm.compat.renamed import refuse_old_arguments, refuse_old_names
from qsdt_mm.errors import require_positive_int
from qsdt_mm.models.neurons.rounding import rounding_follows_weights
from qsdt_mm.models.quantization import check_weight_bits, low_bit, steps_follow_weights

from .unit import SpikeUnit, UnitFactory, register_parameters_once

__getattr__ = refuse_old_names(__name__, 'SpikingPart')

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU)


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
    """Mix-in, before :class:`SpikingMixin`: no ``init_cfg`` by default, for units draw weights that drive neurons.

    The libraries' own (Xavier, a deviation of 0.01) suit activations without a threshold and leave neurons silent.

    >>> from mmengine.model import BaseModule
    >>> class Neck(UnitsDraw, BaseModule):
    ...     pass
    >>> Neck().init_cfg is None
    True
    """

    def __init__(self, *args: Any, init_cfg: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, init_cfg=init_cfg, **kwargs)


@refuse_old_arguments
class SpikingMixin:
    """Mix-in for necks and heads of other libraries: turns their layers into units after construction.

    Args:
        args, kwargs: those of the library's class.
        neuron: config of the neurons, without D; ``dict(rounding=...)`` changes the usual one.
        max_spike_count: D.
        weight_bits: 2, 3, 4, 8 or 32.

    Raises:
        ValueError: an argument is out of range.

    >>> class Neck(SpikingMixin, nn.Sequential):
    ...     pass
    >>> type(Neck(nn.Conv2d(3, 8, 1), nn.ReLU(), weight_bits=4)[0]).__name__
    'SpikeUnit'
    """

    NEURON: dict[str, Any] = dict(type='IELIF', threshold=1.0, scale=1.0, rounding='half_even')

    def __init__(
        self,
        *args: Any,
        neuron: dict[str, Any] | None = None,
        max_spike_count: int = 4,
        weight_bits: int = 32,
        **kwargs: Any,
    ) -> None:
        require_positive_int('max_spike_count', max_spike_count)
        check_weight_bits(weight_bits)
        super().__init__(*args, **kwargs)
        make_spiking(self, UnitFactory(neuron, max_spike_count, 1, weight_bits, preset=self.NEURON))
        register_parameters_once(self)

    def init_weights(self) -> None:
        """Apply ``init_cfg``; LSQ steps follow the weights."""
        with steps_follow_weights(self), rounding_follows_weights(self):
            super().init_weights()
