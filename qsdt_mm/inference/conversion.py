"""Convert a trained network: fold its norms, hold its weights as integers, and sum counts or binary spikes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from qsdt_mm.compat.renamed import refuse_old_names
from qsdt_mm.compat.wrappers import bare_copy, unwrap
from qsdt_mm.errors import require
from qsdt_mm.models.layers import BNAndPad, SpikeDrivenSelfAttention, SpikeUnit, named_units
from qsdt_mm.models.layers.attention import PerSlotAttention
from qsdt_mm.models.layers.float_layers import float_share
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.models.quantization import QuantizedWeight, check_weight_bits, quantize_symmetrically
from qsdt_mm.models.quantization.weight import channel_dim

from . import int8
from .exact import ExactAttention, ExactSynapse, FoldedLayer
from .slots import check_coding
from .splitting import SplitAveragePool

__getattr__ = refuse_old_names(__name__, 'integer_weight')

MODES = ('integer', 'spike')
POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def convert(
    model: nn.Module,
    mode: str,
    weight_bits: int | None = None,
    *,
    require_spikes: bool = False,
    run: Callable[[nn.Module], Any] | None = None,
    coding: str = 'unary',
) -> nn.Module:
    """Return a copy of a network that computes with integers or with binary spikes, in evaluation mode.

    Every :class:`SpikeUnit` keeps its place and name; its norm is folded, and its synapse sums exactly. Both modes give
    the same bits, at every unit, and so does every device; for that, means over all positions are exact, too. Layers
    outside units stay as they are, in floats: one line in the log says how many they are and what share of the
    multiply-accumulates is theirs; so does the copy's ``float_share``.

    Args:
        model: any network made of units; it is left alone. Of one that is wrapped (in parallel, averaged, compiled)
            the copy is not.
        mode: 'integer': activations are counts, weights int8 values with one affine for each output channel.
            'spike': each neuron emits binary slots in each of T time steps, D or as few as ``coding`` takes, and
            synapses and attention only add what spikes select.
        weight_bits: 2, 3, 4 or 8: quantize weights that are real, symmetrically by the largest of each output channel.
            None leaves them, which only 'spike' can do: sums of real weights are then taken in float64.
        require_spikes: refuse layers outside units.
        run: passes images through the network it is given, to count multiply-accumulates; see
            :func:`~qsdt_mm.models.layers.float_layers.float_share`.
        coding: of the slots of 'spike'. 'unary': D slots, of which a count fires so many. 'bitwise': its binary digits,
            2 slots for D = 3, 3 for D = 4 to 7, 4 for D = 8 to 15; sums are shifted from slot to slot. The same bits.

    Raises:
        ValueError: an argument is out of range, 'integer' meets real weights, a neuron does not spike, or
            ``require_spikes`` meets a layer outside units.

    Source: design of QSD (arXiv 2501.13492), inference; the slot algebra is this package's (docs).
    """
    require(mode in MODES, 'mode', mode, ' or '.join(MODES))
    check_coding(coding)
    require(mode == 'spike' or coding == 'unary', 'coding', coding, f'unary: mode {mode} has no slots')
    if weight_bits is not None:
        check_weight_bits(weight_bits)
        require(weight_bits < 32, 'weight_bits', weight_bits, '2, 3, 4, 8 or None')
    int8.is_available()  # tried now, where nobody counts operations
    model = evaluation_copy(model)
    units = dict(named_units(model))
    require(bool(units), 'model', type(model).__name__, 'a network made of spike units')
    for name, unit in units.items():
        require(
            unit.neuron is None or isinstance(unit.neuron, SpikingNeuron),
            f'{name}.neuron',
            type(unit.neuron).__name__,
            'a spiking neuron, such as IELIF, LIF or ParametricLIF',
        )
        if mode == 'integer' and weight_bits is None:
            require(
                not any(is_real(layer) for layer in unit.synapse.modules()),
                'weight_bits',
                weight_bits,
                f'2, 3, 4 or 8: {name} has real weights, which mode integer has to quantize',
            )
    share = float_share(model, run)
    if require_spikes:
        share.require_spikes()
    print_log(f'{mode} inference: {share}', 'current')
    model.float_share = share
    units = list(units.values())
    attentions = [module for module in model.modules() if isinstance(module, SpikeDrivenSelfAttention)]
    neurons = {unit.neuron for unit in units if unit.neuron is not None}
    for attention in attentions:
        neurons.update(attention.neurons)
        require(
            coding == 'unary' or not isinstance(attention.product, PerSlotAttention),
            'coding',
            coding,
            'unary: the network has attention per slot, of unary slots',
        )
    scales = {neuron: neuron.scale for neuron in neurons}
    for unit in units:
        worth = 1.0 if unit.neuron is None else scales[unit.neuron]
        max_spike_count = None if unit.neuron is None else unit.neuron.max_spike_count
        unit.synapse = ExactSynapse(list(fold(unit, worth, weight_bits)), max_spike_count, mode == 'spike', coding)
        if isinstance(unit.norm, _BatchNorm):  # others depend on the input and stay, as real-valued as they are
            drop_norm(unit)
    for attention in attentions:
        scale = attention.product.scale
        for neuron in attention.neurons:
            scale *= scales[neuron]
        max_spike_count = tuple(neuron.max_spike_count for neuron in attention.neurons)
        per_slot = isinstance(attention.product, PerSlotAttention)
        usual_tokens = attention.product.usual_tokens
        attention.product = ExactAttention(scale, max_spike_count, mode == 'spike', coding, per_slot, usual_tokens)
    for module in [*model.modules()]:
        for name, child in module.named_children():
            if isinstance(child, POOLS) and child.output_size in (1, (1,), (1, 1), (1, 1, 1)):
                setattr(module, name, SplitAveragePool())
    for neuron in neurons:
        neuron.scale = 1.0  # what leaves a neuron is its count; its worth is in the affines
    model.eval()  # what is new in it, too
    return model.requires_grad_(False)


@torch.no_grad()
def evaluation_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode, with the weights that its next forward pass would have.

    Pruning and the hooks of weight and spectral norm leave a weight behind that is a result: as old as the last forward
    pass, and with a gradient not to be copied. It is computed anew.
    """
    model = unwrap(model)
    for module in model.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, (BasePruningMethod, WeightNorm)):
                hook(module, None)
            elif isinstance(hook, SpectralNorm):
                setattr(module, hook.name, hook.compute_weight(module, do_power_iteration=False))
    return bare_copy(model)


def drop_norm(unit: SpikeUnit) -> None:
    """Leave a unit without a norm, as one that was built so: tools stumble over a child that is None."""
    del unit.norm
    unit.norm = None


def is_real(layer: nn.Module) -> bool:
    """Return whether a layer has weights that are not quantized."""
    return isinstance(layer, LAYERS) and getattr(layer, 'quantizer', None) is None


def leaves(module: nn.Module) -> Iterator[nn.Module]:
    """Return the layers and norms of a chain, in order; a norm that pads stays whole."""
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
    """Return the layers of a unit with all that is affine folded into them.

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
        weight, step = weight_and_step(module, weight_bits)
        gain = step * scale
        offset = torch.zeros_like(gain) if module.bias is None else module.bias.detach().double()
    yield FoldedLayer(layer, weight, gain, offset, border)


def weight_and_step(layer: nn.Module, weight_bits: int | None) -> tuple[QuantizedWeight | Tensor, Tensor]:
    """Return a layer's weight and float64 steps; real weights that stay real as float64, with steps of one."""
    if not is_real(layer):
        weight = layer.int_weight()
    elif weight_bits is not None:
        weight = quantize_symmetrically(layer.weight, weight_bits, channel_dim(layer))
    else:
        real = layer.weight.detach().double()
        return real, real.new_ones(real.shape[channel_dim(layer)])
    return weight, weight.step
