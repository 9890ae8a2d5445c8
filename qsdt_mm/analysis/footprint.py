"""Bytes that a network occupies where it is deployed: weights in their own bits, norms folded."""

from __future__ import annotations

import math

from torch import nn

from qsdt_mm.models.layers import layers_of, named_units
from qsdt_mm.models.layers.unit import IN_TRAINING_ONLY

from .audit import bits_of

AFFINE_BITS = 32
"""Of each gain and offset that folding leaves for an output channel."""


def footprint(model: nn.Module) -> int:
    """Return the bytes of a network's parameters and buffers as deployed.

    In units ``weights * bits / 8``, and a gain and an offset for each output channel of a layer, in 32 bits; elsewhere
    parameters and buffers as they are; nothing of what only training has.

    >>> from qsdt_mm.models import IELIF, QuantLinear, SpikeUnit
    >>> footprint(SpikeUnit(IELIF(), QuantLinear(4, 2, weight_bits=4)))  # 8 weights of half a byte, 2 x 2 numbers
    20
    """
    bits, inside = 0, set()
    for _, unit in named_units(model):
        for _, layer in layers_of(unit):
            if layer in inside:
                continue
            channels = getattr(layer, 'out_channels', None) or getattr(layer, 'out_features', 0)
            bits += layer.weight.numel() * bits_of(layer) + 2 * channels * AFFINE_BITS
            inside.add(layer)
        inside.update(unit.synapse.modules())
        inside.update(() if unit.norm is None else unit.norm.modules())
    for name, module in model.named_modules():
        if module in inside or IN_TRAINING_ONLY.search(name):
            continue
        for values in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            bits += 8 * values.numel() * values.element_size()
    return math.ceil(bits / 8)
