"""Audit of synapses: those driven by binary spikes alone, and the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import require
from qsdt_mm.models.layers import BNAndPad, SpikeUnit, layers_of, layers_outside_units, named_units
from qsdt_mm.models.layers.float_layers import counting_macs, products_outside


@dataclass(frozen=True)
class SynapseAudit:
    """One layer of a network and what drives it.

    Args:
        name: of the layer, in the network.
        kind: 'conv', 'deconv' or 'linear', with kernel and groups where they say something.
        driven_by: 'spikes', 'image' (the encoding layer), 'membrane' (an inner layer of a chain, or a classifier
            of real values), or 'floats' (a layer outside units, or after an activation that does not spike).
        weights: number of weights.
        weight_bits: of each.
        merged_weights: weights of the one layer that the unit's chain would merge into, given for the first layer of a
            chain; merged weights are real numbers, not of few bits.

    >>> from qsdt_mm.models import IELIF, QuantLinear
    >>> row, = audit(nn.Sequential(SpikeUnit(IELIF(), QuantLinear(4, 2, weight_bits=4))))
    >>> row.name, row.driven_by, row.weights, row.weight_bits
    ('0.synapse', 'spikes', 8, 4)
    """

    name: str
    kind: str
    driven_by: str
    weights: int
    weight_bits: int
    merged_weights: int | None = None


def merged(unit: SpikeUnit) -> nn.Module:
    """Return a layer of the shape that a unit's chain would merge into (without weights, on the meta device)."""
    layers = [layer for _, layer in layers_of(unit)]
    if len(layers) == 1:
        return layers[0]
    borders = sum(isinstance(module, BNAndPad) for module in unit.synapse.modules())
    kernel, padding, stride = [1, 1], [borders, borders], [1, 1]
    for layer in layers:
        for i in (0, 1):
            kernel[i] += (layer.kernel_size[i] - 1) * layer.dilation[i] * stride[i]
            padding[i] += layer.padding[i] * stride[i]
            stride[i] *= layer.stride[i]
    groups = min(layer.groups for layer in layers)
    return nn.Conv2d(
        layers[0].in_channels,
        layers[-1].out_channels,
        tuple(kernel),
        tuple(stride),
        tuple(padding),
        groups=groups,
        bias=False,
        device='meta',
    )


def is_chain(layers: list[tuple[str, nn.Module]]) -> bool:
    """Return whether a unit's layers merge into one: there are several, and all are convolutions."""
    return len(layers) > 1 and all(isinstance(layer, nn.Conv2d) for _, layer in layers)


def describe_layer(layer: nn.Module) -> str:
    """Return a layer's kind in a few words."""
    if isinstance(layer, (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)) or not hasattr(layer, 'weight'):
        return type(layer).__name__
    shape = layer.weight.shape[2:]
    if not shape:
        return 'linear' if isinstance(layer, nn.Linear) else type(layer).__name__
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    kind = 'deconv' if transposed else 'conv' if isinstance(layer, nn.modules.conv._ConvNd) else type(layer).__name__
    groups, size = getattr(layer, 'groups', 1), 'x'.join(map(str, shape))
    depthwise = groups == getattr(layer, 'in_channels', None)
    return f'{kind} {size}' + ('' if groups == 1 else ' depthwise' if depthwise else f' groups {groups}')


def bits_of(layer: nn.Module) -> int:
    """Return the width of a layer's weights: a float counts as 32 bits, or 16 where it has only these."""
    found = getattr(layer, 'weight_bits', None)
    return found or max((8 * p.element_size() for p in layer.parameters()), default=32)


@torch.no_grad()
def audit(model: nn.Module, run: Callable[[nn.Module], Any] | None = None) -> list[SynapseAudit]:
    """List every learned layer of a network, what drives it, and what merging chains would cost.

    Layers outside units are listed too, after those in units, as driven by floats.

    Args:
        model: any network, as trained or converted.
        run: passes images through the network it is given. With it, products without weights are listed where they are
            made outside units, such as those of a stock attention.

    Raises:
        ValueError: a unit holds no layer.
    """
    model, rows = unwrap(model), []
    for name, unit in named_units(model):
        layers = layers_of(unit)
        require(bool(layers), f'{name}.synapse', type(unit.synapse).__name__, 'a layer, or a chain of layers')
        for i, (path, layer) in enumerate(layers):
            driven_by = 'membrane' if i else unit.driven_by
            cost = merged(unit).weight.numel() if i == 0 and is_chain(layers) else None
            full = f'{name}.{path}' if name else path
            rows.append(
                SynapseAudit(full, describe_layer(layer), driven_by, layer.weight.numel(), bits_of(layer), cost)
            )
    for name, layer in layers_outside_units(model):
        weights = sum(p.numel() for p in layer.parameters() if p.dim() >= 2)
        rows.append(SynapseAudit(name, describe_layer(layer), 'floats', weights, bits_of(layer)))
    if run is not None:
        with counting_macs(model) as macs:
            run(model)
        rows += [SynapseAudit(name, kind, 'floats', 0, 32) for name, kind in products_outside(model, macs)]
    return rows
