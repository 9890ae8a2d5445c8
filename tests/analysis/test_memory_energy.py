"""Reads, writes and operations of each form, by hand on a network of one layer, and their energy."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from trained_networks import trained

from qsdt_mm.analysis import measure_energy
from qsdt_mm.analysis.energy_table import HOROWITZ
from qsdt_mm.analysis.operations import effective_operations, synaptic_operations
from qsdt_mm.analysis.traffic import DATAFLOWS, FORMS
from qsdt_mm.inference import CODINGS
from qsdt_mm.models import IELIF, QuantConv2d, QuantLinear, SpikeUnit


@pytest.fixture(scope='module')
def report():
    """Counts 0, 1, 3 and 4 before a linear layer of 2 x 4 weights of four bits, three of which are zero."""
    layer = QuantLinear(4, 2, weight_bits=4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0, 2.0, -3.0], [0.0, 0.0, 1.0, 5.0]]))
        layer.quantizer.step.fill_(1.0)
    unit = SpikeUnit(IELIF(max_spike_count=4, scale=1.0), nn.Identity())
    unit.synapse = layer
    return measure_energy(nn.Sequential(unit).eval(), [torch.tensor([[0.0, 1.0, 3.0, 4.0]])])


def counts(tally):
    """What is not zero, operations, reads and writes."""
    return tuple({key: count for key, count in each.items() if count} for each in tally._all())


def test_each_read_by_hand(report):
    """8 unary spikes of 2 bits of address each reach two sums; 0, 1, 2 and 1 bits are set; 6 of 8 products count."""
    tallies = report.memory('each-read')
    assert counts(tallies['spike, unary']) == (
        {('add', 16): 16 + 4 * 4},  # four comparisons find a count
        {('weights', 'sram', 4): 16, ('activations', 'sram', 2): 8, ('membranes', 'sram', 16): 16 + 4},
        {('activations', 'sram', 2): 8, ('membranes', 'sram', 16): 16 + 2},
    )
    assert counts(tallies['spike, bitwise']) == (
        {('add', 16): 8 + 4 * 3, ('shift', 16): 2 * 2},
        {('weights', 'sram', 4): 8, ('activations', 'sram', 2): 4, ('membranes', 'sram', 16): 8 + 4 + 4},
        {('activations', 'sram', 2): 4, ('membranes', 'sram', 16): 8 + 4 + 2},
    )
    neuron = {('activations', 'sram', 4): 4, ('membranes', 'sram', 16): 2}
    assert counts(tallies['integer']) == (
        {('multiply', 4, 4): 8, ('add', 16): 8 + 4 * 3},
        {
            ('weights', 'sram', 4): 8, ('activations', 'sram', 4): 8, ('sums', 'register', 16): 8,
            ('membranes', 'sram', 16): 4,
        },
        {('sums', 'register', 16): 8} | neuron,
    )  # fmt: skip
    assert counts(tallies['integer, zeros skipped']) == (
        {('multiply', 4, 4): 6, ('add', 16): 6 + 4 * 3},
        {
            ('weights', 'sram', 4): 6, ('activations', 'sram', 4): 8, ('sums', 'register', 16): 6,
            ('membranes', 'sram', 16): 4,
        },
        {('sums', 'register', 16): 6} | neuron,
    )  # fmt: skip
    assert counts(tallies['ReLU, 8 bits']) == (
        {('multiply', 8, 8): 8, ('add', 32): 8, ('add', 8): 4},
        {('weights', 'sram', 8): 8, ('activations', 'sram', 8): 8, ('sums', 'register', 32): 8},
        {('sums', 'register', 32): 8, ('membranes', 'sram', 8): 2},
    )


def test_weight_stationary_by_hand(report):
    tallies = report.memory('weight-stationary', HOROWITZ.placing(dict(weights='dram')))
    assert counts(tallies['spike, unary']) == (
        {('add', 16): 16 + 4 * 4},
        {
            ('weights', 'dram', 4): 8, ('weights', 'register', 4): 16, ('activations', 'sram', 1): 4 * 4,
            ('sums', 'register', 16): 16, ('membranes', 'sram', 16): 4,
        },
        {
            ('weights', 'register', 4): 8, ('activations', 'sram', 1): 4 * 4, ('sums', 'register', 16): 16,
            ('membranes', 'sram', 16): 2,
        },
    )  # fmt: skip
    bitwise = counts(tallies['spike, bitwise'])
    assert bitwise[0] == {('add', 16): 8 + 4 * 3, ('shift', 16): 4}
    assert bitwise[1]['activations', 'sram', 1] == 4 * 3 and bitwise[1]['sums', 'register', 16] == 8 + 4
    integer = counts(tallies['integer'])
    assert integer[1]['activations', 'sram', 4] == 4 and integer[1]['weights', 'dram', 4] == 8


def test_energy_is_that_of_the_table(report):
    tally = report.memory('each-read')['integer']
    operations = 8 * 0.05 + 20 * (0.03 + 0.07 * 8 / 24)  # a product of 4 x 4 bits is a quarter of one of 8 x 8
    accesses = (8 * 4 + 8 * 4 + 4 * 16 + 4 * 4 + 2 * 16) * 5 / 32 + 2 * 8 * 16 / 32
    assert tally.of_operations(HOROWITZ) == pytest.approx(operations)
    assert tally.energy(HOROWITZ) == pytest.approx(operations + accesses)
    figures = tally.as_dict(HOROWITZ)
    assert figures['energy_mj'] == pytest.approx((operations + accesses) * 1e-9)
    assert sum(figures['by_level_mj'].values()) == pytest.approx(accesses * 1e-9)
    assert sum(figures['by_kind_mj'].values()) == pytest.approx(accesses * 1e-9)
    for rows, total in (('operations', operations), ('accesses', accesses)):
        assert sum(row['energy_mj'] for row in figures[rows]) == pytest.approx(total * 1e-9)


def test_neurobench_by_hand(report):
    """Weights that are not zero: one of the first input, none of the second, two of the others."""
    assert report.neurobench == dict(
        footprint=8 * 4 // 8 + 2 * 2 * 4,
        connection_sparsity=3 / 8,
        activation_sparsity=1 / 4,
        synaptic_operations=dict(Effective_MACs=0, Effective_ACs=3 * 2 + 4 * 2, Dense=8),
        membrane_updates=4,
    )
    assert report.as_dict()['neurobench'] == report.neurobench


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    transposed=st.booleans(),
    seed=st.integers(0, 999),
)
def test_effective_operations_are_those_of_a_layer_of_ones(kernel, stride, groups, transposed, seed):
    torch.manual_seed(seed)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(4, 6, kernel, stride, padding=kernel // 2, groups=groups, bias=False).double()
    present = torch.rand_like(layer.weight) < 0.6
    count = torch.randint(0, 5, (2, 4, 5, 6)).double()
    ones = copy.deepcopy(layer)
    with torch.no_grad():
        ones.weight.copy_(present)
        assert effective_operations(layer, count, present) == ones(count).sum().item()
        everywhere = torch.ones_like(present)
        assert effective_operations(layer, count, everywhere) == synaptic_operations(layer, count)


@pytest.mark.parametrize('options', [{}, dict(time_steps=2, max_spike_count=3)], ids=str)
def test_a_backbone_adds_up(options):
    """Operations are those of the rows; forms read the same membranes; what reuses reads less from memory."""
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    model = trained(**options).double()
    unary, bitwise = (measure_energy(model, [images], coding=coding) for coding in CODINGS)
    assert unary.works == bitwise.works
    assert sum(row.sops for row in bitwise.layers) < sum(row.sops for row in unary.layers) and unary.shifts == 0
    assert bitwise.energy_mj == pytest.approx(
        sum(row.macs * 4.6 if row.driven_by != 'spikes' else (row.sops + row.shifts) * 0.9 for row in bitwise.layers)
        * 1e-9
    )
    steps = options.get('time_steps', 1)
    elements = sum(n.elements for n in unary.neurons.values()) / 2
    macs = sum(row.macs for row in unary.layers)
    mixed = sum(row.macs for row in unary.layers if row.driven_by != 'spikes')
    for dataflow in DATAFLOWS:
        tallies = unary.memory(dataflow)
        assert [*tallies] == [*FORMS, *(['ReLU, 8 bits, T = 1'] if steps > 1 else [])]
        for name, report in (('spike, unary', unary), ('spike, bitwise', bitwise)):
            multiplied = sum(count for (op, *_), count in tallies[name].operations.items() if op == 'multiply')
            number = report.neurons['stages.3.blocks.0.0.branch.query.neuron'].max_spike_count
            number = number if name == 'spike, unary' else number.bit_length()
            sops = sum(row.sops for row in report.layers)
            added = tallies[name].operations['add', 16]
            assert multiplied == pytest.approx(mixed)
            compared = elements * (number + 2 * (steps > 1))
            assert added == pytest.approx(sops + mixed + compared + report.shortcuts)
            assert tallies[name].operations['shift', 16] == pytest.approx(report.shifts if 'bit' in name else 0)
        relu = tallies['ReLU, 8 bits']
        assert relu.operations['multiply', 8, 8] == pytest.approx(macs)
        if steps > 1:
            once = tallies['ReLU, 8 bits, T = 1'].energy(HOROWITZ)
            assert relu.energy(HOROWITZ) / 2 < once < relu.energy(HOROWITZ)
        assert all(
            tally.operations['multiply', 4, 4] <= tallies['integer'].operations['multiply', 4, 4]
            for tally in (tallies['integer, zeros skipped'], tallies['spike, unary'])
        )
    reads = [unary.memory(dataflow)['spike, unary'].reads['weights', 'sram', 4] for dataflow in DATAFLOWS]
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, QuantConv2d))
    assert reads[1] == weights < reads[0] and reads[0] > 0


def test_real_weights_are_floats_or_as_many_bits_as_asked():
    model = nn.Sequential(SpikeUnit(IELIF(max_spike_count=4), QuantConv2d(3, 5, 1, weight_bits=32))).eval()
    report = measure_energy(model, [torch.ones(1, 3, 2, 2)])
    floats, quantized = (report.memory('each-read', real_weight_bits=bits) for bits in (None, 8))
    assert floats['integer'].operations['float_multiply', 32] == 3 * 5 * 4
    assert floats['spike, unary'].operations['float_add', 32] == 3 * 5 * 4
    assert quantized['integer'].operations['multiply', 8, 4] == 3 * 5 * 4
    assert not any('float' in name for name, *_ in quantized['spike, unary'].operations)
    assert math.isclose(floats['ReLU, 8 bits'].energy(HOROWITZ), quantized['ReLU, 8 bits'].energy(HOROWITZ))


def test_layers_outside_units_are_floats_in_every_form():
    unit = SpikeUnit(IELIF(max_spike_count=4), QuantConv2d(2, 4, 1, weight_bits=4), nn.BatchNorm2d(4))
    model = nn.Sequential(unit, nn.Conv2d(4, 3, 1)).eval()
    images = torch.ones(1, 2, 2, 2)
    report = measure_energy(model, [images])
    assert [row.name for row in report.outside] == ['1'] == report.as_dict()['total']['outside_units']['names']
    for dataflow in DATAFLOWS:
        for tally in report.memory(dataflow).values():
            assert tally.operations['float_multiply', 32] == tally.operations['float_add', 32] == 3 * 4 * 4
    assert report.neurobench['synaptic_operations']['Effective_MACs'] == 3 * model[0](images).count_nonzero()
    with pytest.raises(ValueError, match="dataflow='none' is not allowed: expected each-read or weight-stationary"):
        report.memory('none')
