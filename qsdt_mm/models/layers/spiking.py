"""Spiking versions of other libraries' parts: each of their layers becomes a unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from torch import nn

from qsdt_mm.compat.renamed import refuse_old_arguments, refuse_old_names
from qsdt_mm.errors import require, require_positive_int
from qsdt_mm.models.neurons.rounding import rounding_follows_weights
from qsdt_mm.models.quantization import check_weight_bits, low_bit, steps_follow_weights
from qsdt_mm.models.quantization.bank import quantized_together
from qsdt_mm.ops import layout

from .unit import SpikeUnit, UnitFactory, named_units, register_parameters_once

__getattr__ = refuse_old_names(__name__, 'SpikingPart')

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU)


def make_spiking(module: nn.Module, factory: UnitFactory, made: dict[nn.Module, nn.Module] | None = None) -> None:
    """Turn every convolution and linear layer inside a module into a unit, in place; activations become identities.

    ``conv, norm, activation`` becomes ``N conv norm``, ``conv`` becomes ``N conv``: the neuron comes before.

    Layers that several places share (RTMDet's head, over its levels) stay shared; neuron and norm are each place's own.

    Args:
        module: any module; units in it are left alone.
        factory: makes neurons and says how many bits a weight has.
        made: low-bit layers by the plain ones that they stand for, from an outer call.
    """
    made = {} if made is None else made

    def low_bit_of(layer: nn.Module) -> nn.Module:
        return made.setdefault(layer, made.get(layer) or low_bit(layer, factory.weight_bits))

    for name, child in module.named_children():
        if isinstance(child, SpikeUnit):
            continue
        if isinstance(child, ConvModule):
            norm = child.norm if child.with_norm else None
            setattr(module, name, _unit(factory, low_bit_of(child.conv), norm))
        elif isinstance(child, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            setattr(module, name, _unit(factory, low_bit_of(child)))
        elif isinstance(child, ACTIVATIONS):
            setattr(module, name, nn.Identity())
        else:
            make_spiking(child, factory, made)


def _unit(factory: UnitFactory, layer: nn.Module, norm: nn.Module | None = None) -> SpikeUnit:
    unit = SpikeUnit(factory.make_neuron(), layer, norm)
    unit.register_forward_pre_hook(in_preferred_memory_format)
    return unit


def remove_neurons(module: nn.Module, names: Sequence[str]) -> None:
    """Take the neurons before the named layers away; weights are drawn anew for what drives them then.

    Raises:
        ValueError: a name is not that of a layer with a neuron.
    """
    units = {name: unit for name, unit in named_units(module) if unit.neuron is not None}
    require(not isinstance(names, str), 'membrane_driven', names, 'a list of names')
    for name in names:
        require(name in units, 'membrane_driven', name, f'one of {", ".join(units)}')
        units[name].neuron, units[name].input_kind = None, 'membrane'
        units[name].reset_parameters()


def in_preferred_memory_format(unit: nn.Module, args: tuple) -> tuple:
    """Take up the layout again in which the backbone computes, for it puts out what any code takes."""
    return tuple(layout.to_preferred_memory_format(arg) for arg in args)


in_preferred_memory_format.leaves_weights = True


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
        membrane_driven: names of layers without a neuron before them, such as ``['fc_cls', 'fc_reg']``; they multiply
            real numbers. The published box heads have such last layers.

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
        membrane_driven: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        require_positive_int('max_spike_count', max_spike_count)
        check_weight_bits(weight_bits)
        super().__init__(*args, **kwargs)
        make_spiking(self, UnitFactory(neuron, max_spike_count, 1, weight_bits, preset=self.NEURON))
        remove_neurons(self, membrane_driven)
        register_parameters_once(self)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute as the library's class does; all weights are quantized, or cast, at once."""
        with quantized_together(self):
            return super().forward(*args, **kwargs)

    def init_weights(self) -> None:
        """Apply ``init_cfg``; LSQ steps follow the weights."""
        with steps_follow_weights(self), rounding_follows_weights(self):
            super().init_weights()
