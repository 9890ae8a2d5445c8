"""Which synapses are driven by binary spikes alone, and which are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from qsdt_mm.models.layers import BNAndPad, SpikeUnit
from qsdt_mm.models.quantization import LowBitWeight


@dataclass(frozen=True)
class SynapseAudit:
    """One layer of a network and what drives it.

    Args:
        name: of the layer, in the network.
        kind: 'conv', 'deconv' or 'linear', with kernel and groups where they say something.
        driven_by: 'spikes', 'image' (the encoding layer), or 'membrane' (an inner layer of a chain, or a classifier
            of real values).
        weights: number of weights.
        weight_bits: of each.
        merged_weights: weights of the one layer that the unit's chain would merge into, given for the first layer of a
            chain; merged weights are real numbers, not of few bits.
    """

    name: str
    kind: str
    driven_by: str
    weights: int
    weight_bits: int
    merged_weights: int | None = None


def layers_of(unit: SpikeUnit) -> list[tuple[str, nn.Module]]:
    """The convolutions and linear layers of a unit's synapse, in order, with their names in the unit."""
    return [
        (f'synapse.{name}' if name else 'synapse', layer)
        for name, layer in unit.synapse.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
    ]


def merged(unit: SpikeUnit) -> nn.Module:
    """A layer of the shape that a unit's chain would merge into (without weights, on the meta device)."""
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


def named_units(model: nn.Module) -> Iterator[tuple[str, SpikeUnit]]:
    """The units of a network, by name."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, SpikeUnit))


def describe(layer: nn.Module) -> str:
    """A layer in a few words."""
    if isinstance(layer, nn.Linear):
        return 'linear'
    size = 'x'.join(map(str, layer.kernel_size))
    kind = 'deconv' if isinstance(layer, nn.ConvTranspose2d) else 'conv'
    return f'{kind} {size}' + (
        '' if layer.groups == 1 else ' depthwise' if layer.groups == layer.in_channels else f' groups {layer.groups}'
    )


def audit(model: nn.Module) -> list[SynapseAudit]:
    """Every learned layer of a network, what drives it, and what merging chains would cost.

    Args:
        model: any network made of units, not converted.
    """
    rows = []
    for name, unit in named_units(model):
        layers = layers_of(unit)
        for i, (path, layer) in enumerate(layers):
            driven_by = 'membrane' if i else unit.driven_by
            cost = merged(unit).weight.numel() if i == 0 and len(layers) > 1 else None
            bits = layer.weight_bits if isinstance(layer, LowBitWeight) else 32
            full = f'{name}.{path}' if name else path
            rows.append(SynapseAudit(full, describe(layer), driven_by, layer.weight.numel(), bits, cost))
    return rows
