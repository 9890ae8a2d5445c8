"""Theoretical energy of inference, from operations that are counted on images."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from qsdt_mm.compat.renamed import refuse_old_attributes
from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import require
from qsdt_mm.models.layers import SpikeDrivenSelfAttention, layers_of, layers_outside_units, named_units
from qsdt_mm.models.layers.float_layers import counting_macs, products_outside
from qsdt_mm.models.neurons import SpikingNeuron

from .audit import describe_layer, is_chain, merged
from .firing import NeuronActivity, spike_counts
from .operations import attention_macs, attention_operations, dense_macs, synaptic_operations

PRESETS = {'fp32': (4.6, 0.9), 'fp16': (1.5, 0.4), 'int8': (0.23, 0.03)}
"""Energy of a multiply-accumulate and of an accumulate at 45 nm, in pJ."""

RULES = {
    False: 'unmerged: layers driven by spikes count accumulates; the encoding layer and what membranes drive, such as '
    'the inner layers of chains, count multiply-accumulates',
    True: 'merged: each chain counts as the single convolution it merges into, driven by spikes; the encoding layer '
    'and what membranes drive count multiply-accumulates',
}
OUTSIDE = '; so do layers outside units, which floats drive'
COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass
class LayerEnergy:
    """Operations of one layer, or of one attention's products, per image.

    Args:
        name: in the network.
        kind: what it is.
        driven_by: 'spikes', 'image', 'membrane', or 'floats' outside units.
        macs: dense multiply-accumulates.
        sops: accumulates that spikes cause; 0 unless spikes drive it.
        rate: firing rate of the neuron that drives it; None without.
        energy: in pJ.
        dense_energy: in pJ, of the same layer with multiply-accumulates throughout.

    >>> from qsdt_mm.models import IELIF, QuantLinear, SpikeUnit
    >>> network = nn.Sequential(SpikeUnit(IELIF(max_spike_count=4), QuantLinear(4, 2, weight_bits=4))).eval()
    >>> row, = measure_energy(network, [torch.ones(1, 4)]).layers
    >>> row.name, row.sops, row.rate, row.energy  # each of 4 inputs is one spike for 2 outputs, at 0.9 pJ
    ('0.synapse', 8.0, 0.25, 7.2)
    """

    name: str
    kind: str
    driven_by: str
    macs: float = 0.0
    sops: float = 0.0
    rate: float | None = None
    energy: float = 0.0
    dense_energy: float = 0.0


@refuse_old_attributes
@dataclass
class EnergyReport:
    """Cost of inference, per image, all time steps together.

    Args:
        preset: name of the energies used.
        rule: what was counted as what, in words.
        images: how many images the operations were averaged over.
        layers: in the network's order.
        neurons: activity by the neuron's name.

    >>> from qsdt_mm.models import IELIF, QuantLinear, SpikeUnit
    >>> network = nn.Sequential(SpikeUnit(IELIF(max_spike_count=4), QuantLinear(4, 2, weight_bits=4))).eval()
    >>> report = measure_energy(network, [torch.ones(1, 4)], preset='int8')
    >>> report.images, report.rate, report.count_distribution
    (1, 0.25, [0.0, 1.0, 0.0, 0.0, 0.0])
    """

    preset: str
    rule: str
    images: int
    layers: list[LayerEnergy]
    neurons: dict[str, NeuronActivity] = field(default_factory=dict)

    @property
    def energy_mj(self) -> float:
        """Return the total, in mJ."""
        return sum(layer.energy for layer in self.layers) * 1e-9

    @property
    def dense_energy_mj(self) -> float:
        """Return the total of the equivalent dense network, in mJ."""
        return sum(layer.dense_energy for layer in self.layers) * 1e-9

    @property
    def outside(self) -> list[LayerEnergy]:
        """Return the layers outside units, and other multiplications of floats there."""
        return [layer for layer in self.layers if layer.driven_by == 'floats']

    @property
    def rate(self) -> float:
        """Return the mean firing rate over all neurons' elements."""
        places = sum(n.elements * n.max_spike_count for n in self.neurons.values())
        return sum(n.spikes for n in self.neurons.values()) / max(places, 1)

    @property
    def step_rates(self) -> list[float]:
        """Return the mean firing rate in each time step, over the neurons that have the most of them."""
        time_steps = max(n.time_steps for n in self.neurons.values())
        neurons = [n for n in self.neurons.values() if n.time_steps == time_steps]
        places = max(sum(n.elements * n.max_spike_count for n in neurons), 1) / time_steps
        return [sum(spikes) / places for spikes in zip(*(n.step_spikes for n in neurons))]

    @property
    def count_distribution(self) -> list[float]:
        """Return the share of each count, from 0 to the largest D, over all neurons' elements."""
        max_spike_count = max(neuron.max_spike_count for neuron in self.neurons.values())
        total = NeuronActivity(max_spike_count)
        for neuron in self.neurons.values():
            for count, times in enumerate(neuron.histogram):
                total.histogram[count] += times
        return total.count_distribution

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers, in types that JSON has."""
        mac, ac = PRESETS[self.preset]
        return dict(
            preset=dict(name=self.preset, mac_pj=mac, ac_pj=ac),
            rule=self.rule,
            images=self.images,
            total=dict(
                energy_mj=self.energy_mj,
                dense_energy_mj=self.dense_energy_mj,
                macs=sum(x.macs for x in self.layers if x.driven_by != 'spikes'),
                sops=sum(x.sops for x in self.layers),
                dense_macs=sum(x.macs for x in self.layers),
                outside_units=dict(
                    layers=len(self.outside),
                    macs=sum(x.macs for x in self.outside),
                    share=sum(x.macs for x in self.outside) / max(sum(x.macs for x in self.layers), 1),
                ),
                firing_rate=self.rate,
                firing_rate_by_step=self.step_rates,
                count_distribution=self.count_distribution,
            ),
            layers=[asdict(layer) for layer in self.layers],
            neurons={
                name: dict(
                    max_spike_count=n.max_spike_count,
                    time_steps=n.time_steps,
                    firing_rate=n.rate,
                    firing_rate_by_step=n.step_rates,
                    count_distribution=n.count_distribution,
                    histogram=n.histogram,
                )
                for name, n in self.neurons.items()
            },
        )


class _Counter:
    """Hooks that count, layer by layer, while images pass."""

    def __init__(self, model: nn.Module, merge: bool) -> None:
        self.model, self.merge = model, merge
        self.rows: dict[str, LayerEnergy] = {}
        self.drivers: dict[str, str | None] = {}  # the neuron before each row
        self.neurons: dict[str, NeuronActivity] = {}

    def attach(self, stack: ExitStack) -> None:
        names = {module: name for name, module in self.model.named_modules()}
        for name, neuron in self.model.named_modules():
            if isinstance(neuron, SpikingNeuron):
                self.neurons[name] = NeuronActivity(neuron.max_spike_count, time_steps=neuron.time_steps)
                stack.callback(neuron.register_forward_hook(self.watch_neuron(name)).remove)
        for name, module in self.model.named_modules():
            if isinstance(module, SpikeDrivenSelfAttention):
                row = self.row(f'{name}.product', 'attention', 'spikes', names.get(module.key_neuron))
                scales = [neuron.scale for neuron in module.neurons]
                stack.callback(module.product.register_forward_pre_hook(self.watch_attention(row, scales)).remove)
        for name, unit in named_units(self.model):
            layers = layers_of(unit)
            if self.merge and is_chain(layers):
                layer = merged(unit)
                row = self.row(f'{name}.synapse', f'merged {describe_layer(layer)}', 'spikes', names.get(unit.neuron))
                stack.callback(unit.synapse.register_forward_hook(self.watch_layer(row, layer, unit.neuron)).remove)
                continue
            for i, (path, layer) in enumerate(layers):
                driven_by = 'membrane' if i else unit.driven_by
                neuron = unit.neuron if driven_by == 'spikes' else None
                row = self.row(f'{name}.{path}', describe_layer(layer), driven_by, names.get(neuron))
                stack.callback(layer.register_forward_hook(self.watch_layer(row, layer, neuron)).remove)

    def row(self, name: str, kind: str, driven_by: str, neuron: str | None) -> LayerEnergy:
        self.rows[name], self.drivers[name] = LayerEnergy(name, kind, driven_by), neuron
        return self.rows[name]

    def watch_neuron(self, name: str):
        return lambda neuron, args, output: self.neurons[name].add(spike_counts(output, neuron.scale))

    def watch_layer(self, row: LayerEnergy, layer: nn.Module, neuron: nn.Module | None):
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            row.macs += dense_macs(layer, args[0], output)
            if neuron is not None:
                row.sops += synaptic_operations(layer, spike_counts(args[0], neuron.scale))

        return hook

    def watch_attention(self, row: LayerEnergy, scales: list[float]):
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            counts = [spike_counts(x, scale) for x, scale in zip(args, scales)]
            row.macs += attention_macs(*counts)
            row.sops += attention_operations(*counts)

        return hook


@torch.no_grad()
def measure_energy(
    model: nn.Module,
    batches: Iterable[Tensor],
    preset: str = 'fp32',
    merge: bool = False,
    run: Any = None,
) -> EnergyReport:
    """Count operations on images, and estimate their energy.

    ``energy = MACs * E_MAC + SOPs * E_AC``; norms are folded away and cost nothing, like the gain of a shortcut. Layers
    outside units, and products that are made outside them (in a stock attention, say), count as MACs of floats.

    Args:
        model: any network made of units, not converted, in evaluation mode.
        batches: images ``(N, C, H, W)`` as the network takes them, or whatever ``run`` takes.
        preset: a key of :data:`PRESETS`.
        merge: count each chain as the single convolution that it merges into.
        run: called with each batch in place of the model; returns how many images it held.

    Raises:
        ValueError: an argument is out of range, the network has a neuron that does not spike, or no image came.

    Source: the convention of QSD (arXiv 2501.13492) and SFA (arXiv 2411.16061); energies by Horowitz (ISSCC 2014).
    """
    require(preset in PRESETS, 'preset', preset, ', '.join(PRESETS))
    model = unwrap(model)
    units = list(named_units(model))
    require(bool(units), 'model', type(model).__name__, 'a network made of spike units')
    for name, unit in units:
        require(
            unit.neuron is None or isinstance(unit.neuron, SpikingNeuron),
            f'{name}.neuron',
            type(unit.neuron).__name__,
            'a spiking neuron, such as IELIF, LIF or ParametricLIF',
        )
        require(
            not getattr(unit.synapse, 'is_converted', False), 'model', 'a converted network', 'the network as trained'
        )
        for path, layer in layers_of(unit):
            require(
                isinstance(layer, COUNTED),
                f'{name}.{path}',
                type(layer).__name__,
                'a 2-D convolution or a linear layer',
            )
    counter, images = _Counter(model, merge), 0
    with ExitStack() as stack:
        counter.attach(stack)
        macs = stack.enter_context(counting_macs(model))
        for batch in batches:
            if run is None:
                model(batch)
                images += len(batch)
            else:
                images += run(batch)
    require(images > 0, 'batches', images, 'at least one image')
    mac, ac = PRESETS[preset]
    outside = [(name, describe_layer(layer)) for name, layer in layers_outside_units(model)]
    for name, kind in (*outside, *products_outside(model, macs)):
        counter.row(name, kind, 'floats', None).macs = float(macs[name])
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    rows = sorted(counter.rows.values(), key=lambda row: order.get(row.name, 0))
    for row in rows:
        row.macs, row.sops = row.macs / images, row.sops / images
        driver = counter.drivers[row.name]
        row.rate = None if driver is None else counter.neurons[driver].rate
        row.dense_energy = row.macs * mac
        row.energy = row.sops * ac if row.driven_by == 'spikes' else row.dense_energy
    rule = RULES[merge] + (OUTSIDE if any(row.driven_by == 'floats' for row in rows) else '')
    return EnergyReport(preset, rule, images, rows, counter.neurons)
