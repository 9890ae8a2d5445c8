"""Theoretical energy of inference, from operations that are counted on images."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from qsdt_mm.compat.renamed import refuse_old_attributes
from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import require
from qsdt_mm.inference.slots import check_coding, number_of_slots
from qsdt_mm.models.layers import layers_of, named_units
from qsdt_mm.models.layers.float_layers import counting_macs, products_outside
from qsdt_mm.models.neurons import SpikingNeuron

from .counting import COUNTED, NetworkCounter, Row
from .energy_table import HOROWITZ, EnergyTable
from .firing import NeuronActivity
from .footprint import footprint
from .traffic import DATAFLOWS, FORMS, Tally, Work, tally_of

PRESETS = {'fp32': (4.6, 0.9), 'fp16': (1.5, 0.4), 'int8': (0.23, 0.03)}
"""Energy of a multiply-accumulate and of an accumulate at 45 nm, in pJ."""

RULES = {
    False: 'unmerged: layers driven by spikes count accumulates; the encoding layer and what membranes drive, such as '
    'the inner layers of chains, count multiply-accumulates',
    True: 'merged: each chain counts as the single convolution it merges into, driven by spikes; the encoding layer '
    'and what membranes drive count multiply-accumulates',
}
OUTSIDE = '; so do layers outside units, which floats drive'


@dataclass
class LayerEnergy:
    """Operations of one layer, or of one attention's products, per image.

    Args:
        name: in the network.
        kind: what it is.
        driven_by: 'spikes', 'image', 'membrane', or 'floats' outside units.
        macs: dense multiply-accumulates.
        sops: accumulates that spikes cause, in slots of the report's coding; 0 unless spikes drive it.
        shifts: sums that are doubled between slots, in bitwise coding.
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
    shifts: float = 0.0
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
        coding: of the slots that accumulates were counted in.
        works: by layer, what is counted of each, or of both products of an attention, for one image.
        addresses: bits of an event's address, by the neuron's name.
        shortcuts: elements that shortcuts add, in one image.
        footprint: bytes of the network as it is deployed, see :func:`~qsdt_mm.analysis.footprint.footprint`.
        connection_sparsity: share of weights that are zero.

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
    coding: str = 'unary'
    works: dict[str, list[Work]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    shortcuts: float = 0.0
    footprint: int = 0
    connection_sparsity: float = 0.0

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

    @property
    def shifts(self) -> float:
        """Return how many sums are doubled between slots; an accumulate each."""
        return sum(layer.shifts for layer in self.layers)

    def memory(
        self, dataflow: str, table: EnergyTable = HOROWITZ, real_weight_bits: int | None = None
    ) -> dict[str, Tally]:
        """Count operations, reads and writes for one image, in each form that the network may be computed in.

        Args:
            dataflow: a key of :data:`~qsdt_mm.analysis.traffic.DATAFLOWS`.
            table: says where data lie; :meth:`Tally.energy` takes it again.
            real_weight_bits: count real weights as of so many bits; None: as floats.

        Raises:
            ValueError: there is no such dataflow.
        """
        require(dataflow in DATAFLOWS, 'dataflow', dataflow, ' or '.join(DATAFLOWS))
        works = [work for row in self.works.values() for work in row]
        neurons = [(self.neurons[name], bits) for name, bits in self.addresses.items()]
        rest = dict(shortcuts=self.shortcuts, images=self.images, real_weight_bits=real_weight_bits)
        tallies = {name: tally_of(form, dataflow, table, works, neurons, **rest) for name, form in FORMS.items()}
        time_steps = max((n.time_steps for n in self.neurons.values()), default=1)
        if time_steps > 1:  # conventional networks run once, where spiking ones run T times
            name, form = [*FORMS.items()][-1]
            once = [w if w.driven_by in ('image', 'floats') else copy.deepcopy(w) for w in works]
            for work in once:
                if work.driven_by not in ('image', 'floats'):
                    work.per_image(time_steps)
            rest |= dict(shortcuts=self.shortcuts / time_steps, images=self.images * time_steps)
            tallies[f'{name}, T = 1'] = tally_of(form, dataflow, table, once, neurons, **rest)
        return tallies

    @property
    def neurobench(self) -> dict[str, Any]:
        """Return footprint, sparsity and operations under the names that NeuroBench gives them.

        Effective operations have an input and a weight that are not zero; those of attention are its accumulates.
        Dense ones count all, once in each time step. A membrane is updated once in each time step.

        Source: NeuroBench (arXiv 2304.04640), section 3.
        """
        elements = sum(n.elements for n in self.neurons.values())
        silent = sum(n.histogram[0] for n in self.neurons.values())
        works = [work for row in self.works.values() for work in row]
        return dict(
            footprint=self.footprint,
            connection_sparsity=self.connection_sparsity,
            activation_sparsity=silent / max(elements, 1),
            synaptic_operations=dict(
                Effective_MACs=sum(w.effective[self.coding] for w in works if w.driven_by != 'spikes'),
                Effective_ACs=sum(w.effective[self.coding] for w in works if w.driven_by == 'spikes'),
                Dense=sum(w.macs for w in works),
            ),
            membrane_updates=elements / self.images,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers, in types that JSON has."""
        mac, ac = PRESETS[self.preset]
        return dict(
            preset=dict(name=self.preset, mac_pj=mac, ac_pj=ac),
            coding=self.coding,
            rule=self.rule,
            images=self.images,
            total=dict(
                energy_mj=self.energy_mj,
                dense_energy_mj=self.dense_energy_mj,
                macs=sum(x.macs for x in self.layers if x.driven_by != 'spikes'),
                sops=sum(x.sops for x in self.layers),
                shifts=self.shifts,
                dense_macs=sum(x.macs for x in self.layers),
                outside_units=dict(
                    layers=len(self.outside),
                    names=[x.name for x in self.outside],
                    macs=sum(x.macs for x in self.outside),
                    share=sum(x.macs for x in self.outside) / max(sum(x.macs for x in self.layers), 1),
                ),
                firing_rate=self.rate,
                firing_rate_by_step=self.step_rates,
                count_distribution=self.count_distribution,
            ),
            neurobench=self.neurobench,
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


@torch.no_grad()
def measure_energy(
    model: nn.Module,
    batches: Iterable[Tensor],
    preset: str = 'fp32',
    merge: bool = False,
    run: Any = None,
    coding: str = 'unary',
) -> EnergyReport:
    """Count operations on images, and estimate their energy; :meth:`EnergyReport.memory` adds that of memory.

    ``energy = MACs * E_MAC + (SOPs + shifts) * E_AC``; norms are folded away and cost nothing, like the gain of a
    shortcut. Layers outside units, and products that are made outside them (in a stock attention, say), count as MACs
    of floats.

    Args:
        model: any network made of units, not converted, in evaluation mode.
        batches: images ``(N, C, H, W)`` as the network takes them, or whatever ``run`` takes.
        preset: a key of :data:`PRESETS`.
        merge: count each chain as the single convolution that it merges into.
        run: called with each batch in place of the model; returns how many images it held.
        coding: of the slots, 'unary' or 'bitwise'; bits are fewer spikes, but sums are doubled between slots.

    Raises:
        ValueError: an argument is out of range, the network has a neuron that does not spike, or no image came.

    Source: the convention of QSD (arXiv 2501.13492) and SFA (arXiv 2411.16061); energies by Horowitz (ISSCC 2014).
    """
    require(preset in PRESETS, 'preset', preset, ', '.join(PRESETS))
    check_coding(coding)
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
    counter, images = NetworkCounter(model, merge), 0
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
    for name, kind in products_outside(model, macs):
        counter.rows[name] = Row(kind, 'floats', None, [Work('floats')])
    counter.finish(images, macs)
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    found = sorted(counter.rows.items(), key=lambda item: order.get(item[0], 0))
    rows = [layer_energy(name, row, preset, coding) for name, row in found]
    for layer, (_, row) in zip(rows, found):
        layer.rate = None if row.neuron is None else counter.neurons[row.neuron].rate
    rule = RULES[merge] + (OUTSIDE if any(row.driven_by == 'floats' for row in rows) else '')
    return EnergyReport(
        preset,
        rule,
        images,
        rows,
        counter.neurons,
        coding,
        {name: row.works for name, row in found},
        counter.addresses,
        counter.shortcuts / images,
        footprint(model),
        counter.weights['zero'] / max(counter.weights['all'], 1),
    )


def layer_energy(name: str, row: Row, preset: str, coding: str) -> LayerEnergy:
    """Return the operations of a layer, and their energy."""
    mac, ac = PRESETS[preset]
    layer = LayerEnergy(name, row.kind, row.driven_by, sum(work.macs for work in row.works))
    layer.dense_energy = layer.energy = layer.macs * mac
    if row.driven_by == 'spikes':
        layer.sops = sum(work.sops[work.coding(coding)] for work in row.works)
        shifted = [work for work in row.works if work.coding(coding) == 'bitwise']
        layer.shifts = sum(w.outputs * (number_of_slots(w.max_spike_count, coding) - 1) for w in shifted)
        layer.energy = (layer.sops + layer.shifts) * ac
    return layer
