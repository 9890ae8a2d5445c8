"""A trained network with its norms folded and its weights quantized once: fewer operations, the same function."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from qsdt_mm.errors import require
from qsdt_mm.models.layers import named_units
from qsdt_mm.models.quantization.weight import along

from .conversion import drop_norm, evaluation_copy, fold
from .exact import FoldedLayer


def fold_norms(model: nn.Module) -> nn.Module:
    """Return a copy of a network, in evaluation mode, whose units are plain layers with a bias and nothing else.

    ``norm(W_q y) = (gain W_q) y + offset``. Rounding differs from the trained network's in the last bits, so that a
    membrane next to a threshold may fire otherwise; in float64 by as much less.

    Args:
        model: any network whose learned layers are units, with any neuron; it is left alone.

    Raises:
        ValueError: there are no units, or one cannot be folded.
    """
    model = evaluation_copy(model)
    units = [unit for _, unit in named_units(model)]
    require(bool(units), 'model', type(model).__name__, 'a network made of spike units')
    for unit in units:
        dtype = next(unit.synapse.parameters()).dtype
        # Real weights stay as they are; those of few bits are on their grid from here on.
        unit.synapse = nn.Sequential(*(plain_layer(layer).to(dtype) for layer in fold(unit, 1.0, None)))
        if isinstance(unit.norm, _BatchNorm):
            drop_norm(unit)
    model.eval()  # what is new in it, too
    return model.requires_grad_(False)


@torch.no_grad()
def plain_layer(folded: FoldedLayer) -> nn.Module:
    """Return torch's own layer for ``gain * (W x) + offset``, in float64."""
    dim = int(folded.transposed)  # where output channels lie
    weight = folded.weight.double()
    weight = weight * along(folded.gain, weight.dim(), dim)
    if folded.conv_args is None:
        layer = nn.Linear(*reversed(weight.shape), device=weight.device, dtype=torch.float64)
    else:
        kind = nn.ConvTranspose2d if folded.transposed else nn.Conv2d
        args = dict(folded.args_with_border)
        channels = weight.shape[1 - dim] * args['groups'], len(folded.offset)
        if folded.transposed:
            channels = len(weight), weight.shape[1] * args['groups']
        layer = kind(*channels, weight.shape[2:], **args, device=weight.device, dtype=torch.float64)
    layer.weight.copy_(weight)
    layer.bias.copy_(folded.offset)
    return layer
