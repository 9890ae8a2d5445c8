"""Operations, reads and writes of a network in several forms: spikes, integers, and ReLU in 8 bits.

What each form computes is taken from the same counts on images (:class:`Work`); how it moves its data is one of two
plain models (:data:`DATAFLOWS`), between which hardware lies.

Source: the first is that of Lemaire et al., An analytical estimation of spiking neural networks energy efficiency
(arXiv 2210.13107), section 3; the second reads everything once, as a weight-stationary array that holds a layer would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from qsdt_mm.inference.slots import CODINGS, number_of_slots

from .energy_table import EnergyTable
from .firing import NeuronActivity

DATAFLOWS = {
    'each-read': 'nothing is reused. A spike is an event: its neuron writes its address, each layer that it drives '
    'reads it, reads each weight that it meets, and reads and writes each sum, all in memory. A multiply-accumulate '
    'reads weight and activation from memory; its sum stays in a register',
    'weight-stationary': 'each weight is read once an image and stays in a register, for all places, time steps and '
    'slots. Activations are read once by each layer, as maps (one bit for each slot, whether it fires or not); sums '
    'stay in registers until they are complete',
}
"""Dataflows, by name: where operands come from. In both, complete sums are written once, as membranes, and read once by
neurons."""
IMAGE_BITS = 8
FLOAT_BITS = 32


@dataclass(frozen=True)
class Form:
    """A way to compute the network.

    Args:
        coding: of the slots that spikes travel in; None: neurons hand on numbers, and layers multiply.
        weight_bits: None: those that each layer has.
        activation_bits: of the number that a neuron hands on; counts that need more have more.
        sum_bits: of sums while they are added up.
        membrane_bits: of complete sums, as layers write and neurons read them.
        skips_zeros: weights are not read, and nothing is multiplied, where a count is zero.
        fires: neurons have a state and slots; False: an activation is applied as sums are written.

    >>> FORMS['spike, bitwise'].coding, FORMS['integer'].activation_bits
    ('bitwise', 4)
    """

    coding: str | None = None
    weight_bits: int | None = None
    activation_bits: int = 4
    sum_bits: int = 16
    membrane_bits: int = 16
    skips_zeros: bool = False
    fires: bool = True


FORMS = {
    'spike, unary': Form('unary'),
    'spike, bitwise': Form('bitwise'),
    'integer': Form(),
    'integer, zeros skipped': Form(skips_zeros=True),
    'ReLU, 8 bits': Form(weight_bits=8, activation_bits=8, sum_bits=32, membrane_bits=8, fires=False),
}
"""The forms that are compared: the first four are one network, bit for bit; the last is its usual counterpart."""


@dataclass
class Work:
    """Work of a layer, or of one of the two products of an attention; summed over images and time steps.

    Args:
        driven_by: 'spikes', 'image', 'membrane', or 'floats' outside units.
        operand: what each operation takes besides the input: 'weights', 'activations' (the other stream of an
            attention's first product) or 'membranes' (that product's result, in the second).
        operands: how many of them there are, for one image; the other stream counts among the inputs.
        operand_bits: of weights; 32 or more are floats.
        max_spike_count: D of the neuron before it.
        inputs, outputs: elements that go in and come out.
        macs: dense multiply-accumulates.
        nonzero_macs: those with an input that is not zero.
        effective: operations with neither input nor weight zero, by coding; the same in both without spikes.
        sops: accumulates, by coding.
        spikes: ones among the slots of the inputs, by coding.
        address_bits: of an event among the inputs.
        per_slot: slots are unary and do not meet, whatever the coding of others.

    >>> Work('spikes').sops
    {'unary': 0.0, 'bitwise': 0.0}
    """

    driven_by: str
    operand: str = 'weights'
    operands: float = 0.0
    operand_bits: int = FLOAT_BITS
    max_spike_count: int = 1
    inputs: float = 0.0
    outputs: float = 0.0
    macs: float = 0.0
    nonzero_macs: float = 0.0
    effective: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CODINGS, 0.0))
    sops: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CODINGS, 0.0))
    spikes: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CODINGS, 0.0))
    address_bits: int = 0
    per_slot: bool = False

    def coding(self, coding: str) -> str:
        """Return the coding of the slots here."""
        return 'unary' if self.per_slot else coding

    def per_image(self, images: int) -> None:
        """Divide by the number of images."""
        for name in ('inputs', 'outputs', 'macs', 'nonzero_macs'):
            setattr(self, name, getattr(self, name) / images)
        for by_coding in (self.effective, self.sops, self.spikes):
            by_coding.update({coding: value / images for coding, value in by_coding.items()})
        if self.operand != 'weights':
            self.operands /= images


@dataclass
class Tally:
    """Operations and memory accesses of one image.

    Args:
        operations: how often, by ``('add', bits)``, ``('shift', bits)``, ``('multiply', bits, bits)``,
            ``('float_add', bits)`` or ``('float_multiply', bits)``; shifts cost as much as additions.
        reads, writes: how often, by ``(kind, level, bits)``; kinds are weights, activations, membranes, and 'sums' of
            what is being added up in registers.

    >>> tally = Tally()
    >>> tally.operations['add', 32] += 2
    >>> tally.reads['weights', 'sram', 32] += 1
    >>> tally.energy(EnergyTable('45 nm'))  # 2 * 0.1 pJ + 5 pJ
    5.2
    """

    operations: Counter = field(default_factory=Counter)
    reads: Counter = field(default_factory=Counter)
    writes: Counter = field(default_factory=Counter)

    def add(self, other: Tally, factor: float = 1.0) -> None:
        """Take in another tally, so many times."""
        for mine, theirs in zip(self._all(), other._all()):
            for key, count in theirs.items():
                mine[key] += factor * count

    def _all(self) -> tuple[Counter, Counter, Counter]:
        return self.operations, self.reads, self.writes

    def of_operations(self, table: EnergyTable) -> float:
        """Return the energy of all operations, in pJ."""
        return sum(count * _energy_of(operation, table) for operation, count in self.operations.items())

    def of_accesses(self, table: EnergyTable) -> dict[tuple[str, str, int], float]:
        """Return the energy of reads and writes in pJ, by kind, level and bits."""
        found: Counter = Counter()
        for way, counts in (('read', self.reads), ('write', self.writes)):
            for (kind, level, bits), count in counts.items():
                found[kind, level, bits] += count * table.of_access(level, way, bits)
        return dict(found)

    def energy(self, table: EnergyTable) -> float:
        """Return the energy of everything, in pJ."""
        return self.of_operations(table) + sum(self.of_accesses(table).values())

    def as_dict(self, table: EnergyTable) -> dict[str, Any]:
        """Return counts and energies (in mJ), in types that JSON has."""
        accesses, operations = self.of_accesses(table), self.of_operations(table)

        def by(index: int) -> dict[str, float]:
            sums: Counter = Counter()
            for key, energy in accesses.items():
                sums[key[index]] += energy * 1e-9
            return dict(sums)

        return dict(
            energy_mj=(operations + sum(accesses.values())) * 1e-9,
            operations_mj=operations * 1e-9,
            by_level_mj=by(1),
            by_kind_mj=by(0),
            operations=[
                dict(
                    operation=name, bits=list(bits), count=count,
                    energy_mj=count * _energy_of((name, *bits), table) * 1e-9,
                )
                for (name, *bits), count in sorted(self.operations.items(), key=str)
                if count
            ],
            accesses=[
                dict(
                    kind=kind, level=level, bits=bits, reads=self.reads[kind, level, bits],
                    writes=self.writes[kind, level, bits], energy_mj=energy * 1e-9,
                )
                for (kind, level, bits), energy in sorted(accesses.items())
                if self.reads[kind, level, bits] or self.writes[kind, level, bits]
            ],
        )  # fmt: skip


def _energy_of(operation: tuple, table: EnergyTable) -> float:
    name, *bits = operation
    if name.endswith('multiply'):
        return table.of_multiply(bits[0], bits[-1], name.startswith('float'))
    return table.of_add(bits[0], name.startswith('float'))


class _Model:
    """One form in one dataflow, with data where a table places them."""

    def __init__(self, form: Form, dataflow: str, table: EnergyTable, real_weight_bits: int | None) -> None:
        self.form, self.reuses, self.place = form, dataflow == 'weight-stationary', table.placement
        self.real_weight_bits = real_weight_bits
        self.tally = Tally()

    def read(self, kind: str, bits: int, count: float, register: bool = False) -> None:
        self.tally.reads[kind, 'register' if register else self.place[kind], bits] += count

    def write(self, kind: str, bits: int, count: float, register: bool = False) -> None:
        self.tally.writes[kind, 'register' if register else self.place[kind], bits] += count

    def accumulate(self, bits: int, count: float, in_memory: bool) -> None:
        """Read and write sums: in registers, or where membranes lie."""
        if in_memory:
            self.read('membranes', bits, count)
            self.write('membranes', bits, count)
        else:
            self.tally.reads['sums', 'register', bits] += count
            self.tally.writes['sums', 'register', bits] += count

    def count_bits(self, max_spike_count: int) -> int:
        """Return the bits of a number that a neuron hands on."""
        if not self.form.fires:
            return self.form.activation_bits
        needed = max_spike_count.bit_length()
        return needed if self.form.coding else max(self.form.activation_bits, needed)

    def operand_bits(self, work: Work) -> int:
        if work.operand == 'activations':
            return self.count_bits(work.max_spike_count)
        if work.operand == 'membranes':
            return self.form.membrane_bits
        if work.driven_by == 'floats':
            return work.operand_bits
        own = work.operand_bits if work.operand_bits < 16 else self.real_weight_bits or work.operand_bits
        return self.form.weight_bits or own

    def layer(self, work: Work) -> None:
        """Count a layer, or a product of an attention."""
        form, operand_bits = self.form, self.operand_bits(work)
        floats = work.driven_by == 'floats' or (work.operand == 'weights' and operand_bits >= 16)
        sum_bits = FLOAT_BITS if floats else form.sum_bits
        out_bits = FLOAT_BITS if work.driven_by == 'floats' else form.membrane_bits
        fires = work.driven_by == 'spikes'
        slotted = fires and form.coding is not None
        coding = work.coding(form.coding) if slotted else None
        operations = work.macs
        if slotted:
            operations = work.sops[coding]
        elif fires and form.skips_zeros:
            operations = work.nonzero_macs
        input_bits = {
            'spikes': self.count_bits(work.max_spike_count),
            'image': IMAGE_BITS,
            'membrane': form.membrane_bits,
            'floats': FLOAT_BITS,
        }[work.driven_by]
        add = 'float_add' if floats else 'add'
        self.tally.operations[add, sum_bits] += operations
        if not slotted and floats:
            self.tally.operations['float_multiply', FLOAT_BITS] += operations
        elif not slotted:
            self.tally.operations['multiply', operand_bits, input_bits] += operations
        number = number_of_slots(work.max_spike_count, coding) if slotted else 1
        in_memory = slotted and not self.reuses
        self.accumulate(sum_bits, operations, in_memory)
        if coding == 'bitwise':  # sums are doubled before each slot but the first
            doublings = work.outputs * (number - 1)
            self.tally.operations['shift', sum_bits] += doublings
            self.accumulate(sum_bits, doublings, in_memory)
        if self.reuses:
            self.read(work.operand, operand_bits, work.operands)
            self.write(work.operand, operand_bits, work.operands, register=True)
            self.read(work.operand, operand_bits, operations, register=True)
            self.read('activations', 1 if slotted else input_bits, work.inputs * number)
        else:
            self.read(work.operand, operand_bits, operations)
            if slotted:
                self.read('activations', work.address_bits, work.spikes[coding])
            else:  # looked at to know that it is zero
                self.read('activations', input_bits, work.macs)
        self.write('membranes', out_bits, work.outputs)

    def neuron(self, activity: NeuronActivity, address_bits: int) -> None:
        """Count what a neuron reads, compares and hands on."""
        form, elements = self.form, activity.elements
        if not form.fires:  # applied as the sum is written
            self.tally.operations['add', form.membrane_bits] += elements
            return
        coding = form.coding or 'bitwise'  # a count is found by as many comparisons as it has bits
        number = number_of_slots(activity.max_spike_count, coding)
        carried = activity.time_steps > 1
        self.tally.operations['add', form.membrane_bits] += elements * (number + 2 * carried)
        self.read('membranes', form.membrane_bits, elements * (1 + carried))
        self.write('membranes', form.membrane_bits, elements * carried)
        if form.coding is None:
            self.write('activations', self.count_bits(activity.max_spike_count), elements)
        elif self.reuses:
            self.write('activations', 1, elements * number)
        else:
            self.write('activations', address_bits, activity.spikes_in(form.coding))

    def shortcut(self, elements: float) -> None:
        """Count the sum of a shortcut and a branch, as the branch is written."""
        self.tally.operations['add', self.form.membrane_bits] += elements
        self.read('membranes', self.form.membrane_bits, elements)


def tally_of(
    form: Form,
    dataflow: str,
    table: EnergyTable,
    works: Iterable[Work],
    neurons: Iterable[tuple[NeuronActivity, int]] = (),
    shortcuts: float = 0.0,
    images: int = 1,
    real_weight_bits: int | None = None,
) -> Tally:
    """Count operations, reads and writes of a network for one image.

    Args:
        form: how it computes.
        dataflow: a key of :data:`DATAFLOWS`.
        table: says in which level data lie.
        works: its layers and products, per image.
        neurons: with the bits of an event's address, over all images.
        shortcuts: elements that shortcuts add, per image.
        images: how many images the neurons saw.
        real_weight_bits: weights that are real count as of so many bits; None: as floats.
    """
    layers, others = (_Model(form, dataflow, table, real_weight_bits) for _ in range(2))
    for work in works:
        layers.layer(work)
    for activity, address_bits in neurons:
        others.neuron(activity, address_bits)
    layers.tally.add(others.tally, 1 / images)
    layers.shortcut(shortcuts)
    return layers.tally
