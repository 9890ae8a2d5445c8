"""Convert a trained network: fold its norms, hold its weights as integers, and sum counts or binary spikes."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qsdt_mm.models.layers import BNAndPad, SpikeDrivenSelfAttention, SpikeUnit
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.models.quantization import check_weight_bits, integer_range
from qsdt_mm.validation import require

from .exact import ExactAttention, ExactSynapse, FoldedLayer
from .splitting import SplitAveragePool

MODES = ('integer', 'spike')
POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def convert(model: nn.Module, mode: str, weight_bits: int | None = None) -> nn.Module:
    """A copy of a network that computes with integers or with binary spikes, in evaluation mode.

    Every :class:`SpikeUnit` keeps its place and name; its norm is folded, and its synapse sums exactly. Both modes give
    the same bits, at every unit, and so does every device; for that, means over all positions are exact, too.

    Args:
        model: any network whose learned layers are units; it is left alone.
        mode: 'integer': activations are counts, weights int8 values with one affine for each output channel.
            'spike': each neuron emits T x D binary slots, and synapses and attention only add what spikes select.
        weight_bits: 2, 3, 4 or 8: quantize weights that are real, symmetrically by the largest of each output channel.
            None leaves them, which only 'spike' can do: sums of real weights are then taken in float64.

    Raises:
        ValueError: an argument is out of range, 'integer' meets real weights, or a neuron does not spike.

    Source: design of QSD (arXiv 2501.13492), inference; the slot algebra is this package's (docs).
    """
    require(mode in MODES, 'mode', mode, ' or '.join(MODES))
    if weight_bits is not None:
        check_weight_bits(weight_bits)
        require(weight_bits < 32, 'weight_bits', weight_bits, '2, 3, 4, 8 or None')
    model = copy.deepcopy(model).eval()
    units = [module for module in model.modules() if isinstance(module, SpikeUnit)]
    require(bool(units), 'model', type(model).__name__, 'a network made of spike units')
    for name, module in model.named_modules():
        if isinstance(module, SpikeUnit):
            require(
                module.neuron is None or isinstance(module.neuron, SpikingNeuron),
                f'{name}.neuron',
                type(module.neuron).__name__,
                'a spiking neuron, such as IELIF or LIF',
            )
            if mode == 'integer' and weight_bits is None:
                real = [layer for layer in module.synapse.modules() if is_real(layer)]
                require(
                    not real,
                    'weight_bits',
                    weight_bits,
                    f'2, 3, 4 or 8: {name} has real weights, which mode integer has to quantize',
                )

    attentions = [module for module in model.modules() if isinstance(module, SpikeDrivenSelfAttention)]
    neurons = {unit.neuron for unit in units if unit.neuron is not None}
    for attention in attentions:
        neurons.update(attention.neurons)
    scales = {neuron: neuron.scale for neuron in neurons}
    for unit in units:
        gain = 1.0 if unit.neuron is None else scales[unit.neuron]
        levels = None if unit.neuron is None else unit.neuron.levels
        unit.synapse = ExactSynapse(list(fold(unit, gain, weight_bits)), levels, mode == 'spike')
        if isinstance(unit.norm, _BatchNorm):  # others depend on the input and stay, as real-valued as they are
            unit.norm = None
    for attention in attentions:
        scale = attention.product.scale
        for neuron in attention.neurons:
            scale *= scales[neuron]
        levels = tuple(neuron.levels for neuron in attention.neurons)
        attention.product = ExactAttention(scale, levels, mode == 'spike')
    for module in [*model.modules()]:
        for name, child in module.named_children():
            if isinstance(child, POOLS) and child.output_size in (1, (1,), (1, 1), (1, 1, 1)):
                setattr(module, name, SplitAveragePool())
    for neuron in neurons:
        neuron.scale = 1.0  # what leaves a neuron is its count; its worth is in the affines
    return model.requires_grad_(False)


def is_real(layer: nn.Module) -> bool:
    """Whether a layer has weights that are not quantized."""
    return isinstance(layer, LAYERS) and getattr(layer, 'quantizer', None) is None


def leaves(module: nn.Module) -> Iterator[nn.Module]:
    """Layers and norms of a chain, in order; a norm that pads stays whole."""
    if isinstance(module, (*LAYERS, _BatchNorm, BNAndPad)):
        yield module
    else:
        children = list(module.children())
        require(
            isinstance(module, (nn.Sequential, nn.Identity)),
            'synapse',
            type(module).__name__,
            'a layer, or a chain of layers and batch norms',
        )
        for child in children:
            yield from leaves(child)


def fold(unit: SpikeUnit, scale: float, weight_bits: int | None) -> Iterator[FoldedLayer]:
    """The layers of a unit with all that is affine folded into them.

    Args:
        unit: the unit.
        scale: worth of one spike, for the first layer.
        weight_bits: for real weights; None leaves them.
    """
    layer, gain, offset, weight, border = None, None, None, None, 0
    norms = [unit.norm] if isinstance(unit.norm, _BatchNorm) else []
    for module in (*leaves(unit.synapse), *norms):
        if isinstance(module, (_BatchNorm, BNAndPad)):
            require(layer is not None, 'synapse', type(module).__name__, 'a layer first')
            pads = isinstance(module, BNAndPad)
            # Its border is what the norm makes of zero; zeros around the sums become that only without a bias.
            require(not pads or layer.bias is None, 'synapse', 'a bias before BNAndPad', 'no bias there')
            norm = module.norm if pads else module
            slope = (norm.running_var.double() + norm.eps).rsqrt() * norm.weight.double()
            offset = (offset - norm.running_mean.double()) * slope + norm.bias.double()
            gain = gain * slope
            border += pads
            continue
        if layer is not None:
            yield FoldedLayer(layer, weight, gain, offset, border)
            scale = 1.0
        layer, border = module, 0
        weight, step = integer_weight(module, weight_bits)
        gain = step * scale
        offset = torch.zeros_like(gain) if module.bias is None else module.bias.detach().double()
    yield FoldedLayer(layer, weight, gain, offset, border)


def integer_weight(layer: nn.Module, weight_bits: int | None) -> tuple[Tensor, Tensor]:
    """A layer's weight as int8 and a float64 step for each output channel; real weights as float64 and steps of one."""
    weight = layer.weight.detach()
    dim = int(isinstance(layer, nn.ConvTranspose2d))  # where output channels lie
    by_output = weight.transpose(0, dim)
    if not is_real(layer):
        integers = layer.quantizer.integers(by_output).to(torch.int8)
        return integers.transpose(0, dim).contiguous(), layer.quantizer.positive_step.detach().double()
    by_output = by_output.double()
    if weight_bits is None:
        return weight.double(), by_output.new_ones(len(by_output))
    low, high = integer_range(weight_bits)
    step = by_output.abs().flatten(1).amax(1) / high
    step = torch.where(step > 0, step, torch.ones_like(step))
    integers = (by_output / step.view(-1, *[1] * (weight.dim() - 1))).round().clamp(low, high).to(torch.int8)
    return integers.transpose(0, dim).contiguous(), step
