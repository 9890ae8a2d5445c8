"""The unit (neuron, synapse, norm) that every learned layer is made of."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from qsdt_mm.compat.renamed import refuse_old_arguments
from qsdt_mm.compat.signatures import accepted_arguments
from qsdt_mm.compat.tracing import has_values
from qsdt_mm.errors import require
from qsdt_mm.models.neurons import IELIF, SpikingNeuron
from qsdt_mm.models.quantization import QuantConv2d, QuantWeightMixin

from .norm_counters import has_hooks
from .norms import NormedChain, Residual, apply_norms

RMS_NORMS = (nn.RMSNorm,) if hasattr(nn, 'RMSNorm') else ()  # torch 2.4 and later
IN_TRAINING_ONLY = re.compile(r'(^|\.)(auxiliary_head|aux_head|distillation|teacher|losses|loss(_\w+)?)(\.|$)')


@refuse_old_arguments
class SpikeUnit(nn.Module):
    """Neuron, synapse, norm: ``y = norm(synapse(neuron(u)))``, from membrane potential to membrane potential.

    Every view of a network (folding, integer and spike inference, counting, export) is a rule about this class; to look
    at a model, walk its units.

    Args:
        neuron: fires the spikes that drive the synapse. None where real values do: in the encoding layer, which sees
            the image. Units that listen to the same spikes (query, key, value) hold the *same* neuron object.
        synapse: a linear map of the spikes: a convolution, a linear layer, or a chain of them.
        norm: batch norm, or None.
        input_kind: what drives a synapse without a neuron: 'image' or 'membrane'.

    >>> from qsdt_mm.models import IELIF, QuantConv2d
    >>> unit = SpikeUnit(IELIF(), QuantConv2d(3, 8, 1, weight_bits=4), nn.BatchNorm2d(8))
    >>> unit(torch.ones(1, 3, 5, 5)).shape, unit.driven_by
    (torch.Size([1, 8, 5, 5]), 'spikes')
    """

    def __init__(
        self,
        neuron: nn.Module | None,
        synapse: nn.Module,
        norm: nn.Module | None = None,
        input_kind: str = 'image',
    ) -> None:
        super().__init__()
        self.neuron = neuron
        self.synapse = synapse
        self.norm = norm
        self.input_kind = input_kind
        self.reset_parameters()

    @property
    def driven_by(self) -> str:
        """Name the synapse's drive: 'spikes', 'image', 'membrane', or 'floats' of an activation that does not spike."""
        if self.neuron is None:
            return self.input_kind
        return 'spikes' if isinstance(self.neuron, SpikingNeuron) else 'floats'

    def fire(self, membrane: Tensor) -> Tensor:
        """Fire scaled spike counts of a membrane potential; the identity without a neuron."""
        return membrane if self.neuron is None else self.neuron(membrane)

    def drive(self, spikes: Tensor, residual: Residual | None = None) -> Tensor:
        """Compute the membrane potential that spikes cause: synapse, then norm; then the residual sum, if there is one.

        Two norms in a row, and a norm with a gain after it, are one function in training, where :func:`can_fuse`.
        """
        norms = [] if self.norm is None else [self.norm]
        if norms and type(self.synapse).forward is NormedChain.forward and not has_hooks(self.synapse):
            norms, membrane = [self.synapse[-1], *norms], self.synapse.before_norm(spikes)
        else:
            membrane = self.synapse(spikes)
        return apply_norms(norms, membrane, residual)

    def forward(self, membrane: Tensor, residual: Residual | None = None) -> Tensor:
        """Map ``(N, C_in, ...) -> (N, C_out, ...)``, and add a residual if there is one."""
        spikes = self.fire(membrane)
        return self.drive(spikes) if residual is None else self.drive(spikes, residual)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights so that a membrane of unit variance gives one of unit variance.

        ``var(w) = 1 / (fan_in * E[y^2])`` with y the neuron's output for a standard normal membrane; so a new network
        fires in evaluation mode too, where batch norm has seen no data yet.
        """
        layers = [layer for layer in self.synapse.modules() if isinstance(layer, QuantWeightMixin)]
        if not all(has_values(parameter) for parameter in self.parameters()):  # operations on them take long
            return
        # A neuron that stays silent counts as 1, so that the result can divide.
        power = 1.0 if self.neuron is None else response(self.neuron).square().mean().item() or 1.0
        for layer in layers:
            nn.init.normal_(layer.weight, std=(layer.fan_in * power) ** -0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            layer.reset_step()
            power = 1.0  # what follows inside a chain is driven by membranes of unit variance


def named_units(model: nn.Module) -> Iterator[tuple[str, SpikeUnit]]:
    """Yield the units of a network, by name."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, SpikeUnit))


def register_parameters_once(model: nn.Module) -> None:
    """Leave a neuron with parameters that several modules hold registered in the first of them, in place.

    The others still hold it, as a plain attribute: they fire the same neuron, and copies of the network share it. But
    whatever walks the children (an optimizer's constructor, a state dict) meets each parameter once.
    """
    seen: set[nn.Module] = set()
    for parent in list(model.modules()):
        if isinstance(parent, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):  # hold nothing but by registering it
            seen.update(parent.children())
            continue
        for name, child in list(parent.named_children()):
            if child in seen and isinstance(child, SpikingNeuron) and next(child.parameters(), None) is not None:
                delattr(parent, name)
                object.__setattr__(parent, name, child)
            seen.add(child)


def neuron_parameters(model: nn.Module) -> list[str]:
    """Return the names of the parameters that neurons have, such as ``...neuron.w`` of a ParametricLIF."""
    neurons = [(name, module) for name, module in model.named_modules() if isinstance(module, SpikingNeuron)]
    return [name for prefix, neuron in neurons for name, _ in neuron.named_parameters(prefix)]


def layers_of(unit: SpikeUnit) -> list[tuple[str, nn.Module]]:
    """Return the layers of a unit's synapse, in order, with their names in the unit."""
    return [
        (f'synapse.{name}' if name else 'synapse', layer)
        for name, layer in unit.synapse.named_modules()
        if is_layer(layer)
    ]


def is_layer(module: nn.Module) -> bool:
    """Return whether a module multiplies its input by weights: a convolution, linear map, attention, recurrence.

    Layers of other libraries (deformable convolutions, say) are known by a ``weight`` of two dimensions or more.
    """
    if isinstance(module, (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)):
        return True
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm, *RMS_NORMS)):
        return False
    weight = getattr(module, 'weight', None)
    return isinstance(weight, Tensor) and weight.dim() >= 2


def layers_outside_units(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the layers that no unit's synapse holds, in order, with their names: those that a view would miss.

    Parts that training alone runs do not count: auxiliary heads, losses, distillation and its teachers.
    """
    inside = {module for _, unit in named_units(model) for module in unit.synapse.modules()}
    found: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        within = any(name.startswith(f'{outer}.') for outer, _ in found)  # an attention's own projections
        if module not in inside and is_layer(module) and not within and not IN_TRAINING_ONLY.search(name):
            found.append((name, module))
    return found


@torch.no_grad()
def response(neuron: nn.Module, deviation: float = 1.0, points: int = 4096) -> Tensor:
    """Compute a neuron's output for a normal membrane, at the midpoints of so many quantiles (of each time step).

    Means over it are expectations: ``response(neuron).square().mean()`` is ``E[y^2]``.
    """
    time_steps = getattr(neuron, 'time_steps', 1)
    # On the CPU by name, so that networks can be built on the meta device.
    quantiles = (torch.arange(points, dtype=torch.float64, device='cpu') + 0.5) / points
    membrane = deviation * torch.erfinv(2 * quantiles - 1) * math.sqrt(2)
    return copy.deepcopy(neuron).to('cpu', torch.float64)(membrane.repeat(time_steps))


@refuse_old_arguments
@dataclass(frozen=True)
class UnitFactory:
    """Maker of the neurons and units of one network, with their shared settings.

    Args:
        neuron: config of the neuron, without T and D.
        max_spike_count: D.
        time_steps: T.
        weight_bits: 2, 3, 4, 8 or 32.
        preset: config of the network's usual neuron, see :func:`make_neuron`.
        attention: products of the slots of attention, 'summed' or 'per_slot'.
        attention_tokens: tokens that attention is scaled for, whatever an image has; None: not scaled.

    >>> factory = UnitFactory(None, max_spike_count=4, time_steps=1, weight_bits=4, preset=dict(type='IELIF'))
    >>> factory.conv_unit(3, 8, 3)(torch.ones(1, 3, 5, 5)).shape
    torch.Size([1, 8, 5, 5])
    """

    neuron: dict[str, Any] | None
    max_spike_count: int
    time_steps: int
    weight_bits: int
    preset: dict[str, Any] | None = None
    attention: str = 'summed'
    attention_tokens: int | None = None

    def make_neuron(self, scale_factor: float = 1.0) -> nn.Module:
        """Build a new neuron, whose spikes are worth ``scale_factor`` times the usual."""
        return make_neuron(self.neuron, self.max_spike_count, self.time_steps, scale_factor, self.preset)

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
    ) -> QuantConv2d:
        """Build a low-bit convolution; padding defaults to half the kernel."""
        padding = kernel_size // 2 if padding is None else padding
        return QuantConv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            groups=groups,
            bias=bias,
            weight_bits=self.weight_bits,
        )

    def depthwise(self, channels: int, kernel_size: int, padding: int | None = None) -> QuantConv2d:
        """Build a low-bit depthwise convolution."""
        return self.conv(channels, channels, kernel_size, padding=padding, groups=channels)

    def conv_unit(self, in_channels: int, out_channels: int, kernel_size: int = 1, **conv_args: Any) -> SpikeUnit:
        """Build the usual unit: a neuron, one convolution, batch norm."""
        return self.unit(self.conv(in_channels, out_channels, kernel_size, **conv_args), out_channels)

    def unit(self, synapse: nn.Module, out_channels: int) -> SpikeUnit:
        """Build a unit around a synapse of your own, with a new neuron and batch norm."""
        return SpikeUnit(self.make_neuron(), synapse, nn.BatchNorm2d(out_channels))


def make_neuron(
    config: dict[str, Any] | None,
    max_spike_count: int,
    time_steps: int,
    scale_factor: float = 1.0,
    preset: dict[str, Any] | None = None,
) -> nn.Module:
    """Build a neuron from its config; T and D are filled in where the type has them.

    Args:
        config: ``dict(type=..., ...)``; any activation in the registry will do, such as ``dict(type='ReLU')`` for the
            conventional counterpart of a network.
        max_spike_count: D, for types that fire more than one spike; a value in ``config`` wins.
        time_steps: T; a value in ``config`` wins.
        scale_factor: multiplies the worth of a spike.
        preset: config of the network's usual neuron, which is built where ``config`` is None or has nothing but a
            ``rounding``. Its rounding is that of other configs, too, unless they or a checkpoint say it.

    Raises:
        ValueError: there is no such type, or one of its constants is out of range.
    """
    preset = dict(preset or {})
    rounding = preset.pop('rounding', None)
    if preset and (config is None or (isinstance(config, dict) and config.keys() == {'rounding'})):
        config = {**preset, **(config or {})}
    kind = config.get('type') if isinstance(config, dict) else None
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(None) as registry:  # where build would look
            kind = registry.get(kind)
    require(callable(kind), 'neuron', config, 'a dict whose type is IELIF, LIF or an activation of the registry')
    config = dict(config, type=kind)
    accepted, _ = accepted_arguments(kind)
    for name, value in dict(time_steps=time_steps, max_spike_count=max_spike_count).items():
        if name in accepted:
            config.setdefault(name, value)
    neuron = MODELS.build(config)
    if isinstance(neuron, IELIF) and rounding is not None and not neuron.rounding_given:
        neuron.rounding = rounding
    if isinstance(neuron, SpikingNeuron):
        asked = config.get('time_steps', time_steps)
        require(neuron.time_steps == asked, f'{type(neuron).__name__}.time_steps', neuron.time_steps, f'{asked}')
        neuron.scale *= scale_factor
    return neuron
