"""Energy: operations counted on images equal those that spike-driven inference performs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qsdt_mm import IELIF, SpikeDrivenTransformer
from qsdt_mm.analysis import NeuronActivity, measure_energy
from qsdt_mm.analysis.energy import PRESETS
from qsdt_mm.analysis.operations import attention_operations
from qsdt_mm.inference import ExactAttention, ExactSynapse, convert
from qsdt_mm.models import QuantConv2d, QuantLinear, SpikeUnit


def small(family='qsd', **options):
    torch.manual_seed(0)
    arch = dict(family=family, widths=(4, 4, 8, 8, 16), depths=(1, 1, 1, 1, 1), num_heads=2, layer_scale=0.5)
    if family == 'espike-large':
        arch |= dict(widths=(4, 4, 8, 16), depths=(1, 1, 1, 1), pointwise_branch=True)
    model = SpikeDrivenTransformer(arch, **{'weight_bits': 4, **options}).double().eval()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.bias, -0.2, 0.4)
    return model


def rows_of(report):
    return {row.name: row for row in report.layers}


def test_a_small_network_by_hand():
    encode = SpikeUnit(None, QuantConv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2))
    conv = SpikeUnit(IELIF(max_spike_count=3), QuantConv2d(2, 4, 3, stride=2, groups=2), nn.BatchNorm2d(4))
    head = SpikeUnit(IELIF(max_spike_count=3), QuantLinear(4 * 9, 5))
    model = nn.Sequential(encode, conv, nn.Flatten(), head).eval()
    images = torch.randn(6, 1, 7, 7)
    report = measure_energy(model, [images[:4], images[4:]])
    with torch.no_grad():
        first = conv.neuron.count(encode(images))
        second = head.neuron.count(conv(encode(images)).flatten(1))
    reached = F.conv2d(first, torch.ones(4, 1, 3, 3), stride=2, groups=2).sum().item()
    encoding, middle, last = report.layers
    assert report.images == 6
    assert (encoding.driven_by, encoding.macs, encoding.sops, encoding.rate) == ('image', 49 * 2 * 9, 0, None)
    assert (middle.driven_by, middle.macs) == ('spikes', 9 * 4 * 9)
    assert middle.sops == pytest.approx(reached / 6) and last.sops == pytest.approx(second.sum().item() * 5 / 6)
    assert middle.rate == pytest.approx(first.mean().item() / 3)
    assert encoding.energy == encoding.dense_energy == pytest.approx(49 * 2 * 9 * 4.6)
    assert middle.energy == pytest.approx(middle.sops * 0.9)
    counts = torch.cat([first.flatten(), second.flatten()])
    assert report.count_distribution == pytest.approx([(counts == n).float().mean().item() for n in range(4)])
    total = (encoding.macs * 4.6 + (middle.sops + last.sops) * 0.9) * 1e-9
    assert report.energy_mj == pytest.approx(total)
    assert report.neurons['1.neuron'].histogram == [int((first == n).sum()) for n in range(4)]


@pytest.mark.parametrize('options', [dict(), dict(time_steps=2, max_spike_count=2)], ids=str)
@pytest.mark.parametrize(
    ('family', 'coding'),
    [('qsd', 'unary'), ('espike', 'unary'), ('espike-large', 'unary'), ('qsd', 'bitwise'), ('espike', 'bitwise')],
)
def test_what_spike_driven_inference_adds_is_what_was_counted(family, coding, options):
    """Slot by slot: a layer of ones in place of each synapse says how many outputs the spikes of a slot reach."""
    model = small(family, **options)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    counted = rows_of(measure_energy(model, [images], coding=coding))
    spiking, added = convert(model, 'spike', coding=coding), {}
    for name, module in spiking.named_modules():
        if isinstance(module, ExactSynapse) and module.max_spike_count is not None:
            first, chain = module.layers[0], len(module.layers) > 1

            def linear(values, first=first, key=f'{name}.0' if chain else name):
                ones = torch.ones_like(first.weight, dtype=values.dtype)
                added[key] = added.get(key, 0) + F.conv2d(values, ones, **first.conv_args).sum().item()
                return type(first).linear(first, values)

            first.linear = linear
        elif isinstance(module, ExactAttention):
            module.register_forward_pre_hook(
                lambda m, args, name=name: added.__setitem__(
                    name, attention_operations(*args, coding, max(m.max_spike_count))
                )
            )
    with torch.no_grad():
        spiking(images)
    expected = {name: row.sops * 2 for name, row in counted.items() if row.driven_by == 'spikes'}
    assert added == expected and len(added) > 15
    assert sum(added.values()) > 0


def test_merging_counts_the_chain_as_one_layer():
    model = small('qsd')
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    plain, merged = (measure_energy(model, [images], merge=merge) for merge in (False, True))
    name = 'stages.3.blocks.0.0.branch.query.synapse'
    rows = rows_of(merged)
    assert {row.driven_by for row in merged.layers} == {'image', 'spikes'}
    spikes = {n: a.spikes for n, a in merged.neurons.items()}
    row = rows[name]
    assert row.kind == 'merged conv 3x3' and row.macs == 4 * 8 * 8 * 9  # on 2 x 2 places
    # Of 2 x 2 places with a 3 x 3 kernel, each spike reaches all four, in every output channel.
    assert row.sops == spikes['stages.3.blocks.0.0.branch.query.neuron'] / 2 * 4 * 8
    assert sum('query' in row.name for row in plain.layers) == 2 * 3
    assert plain.rule.startswith('unmerged: ') and merged.rule.startswith('merged: ')
    assert rows_of(plain)[f'{name}.2'].driven_by == 'membrane'
    assert rows_of(plain)[f'{name}.2'].energy == rows_of(plain)[f'{name}.2'].dense_energy > 0


@pytest.mark.parametrize('merge', [False, True])
def test_a_classifier_of_real_values_counts_multiplications(merge):
    main = SpikeUnit(None, QuantLinear(6, 5), input_kind='membrane')
    model = nn.Sequential(SpikeUnit(None, QuantLinear(3, 6)), SpikeUnit(IELIF(), QuantLinear(6, 6)), main).eval()
    image, spikes, real = measure_energy(model, [torch.randn(2, 3)], merge=merge).layers
    assert (image.driven_by, spikes.driven_by, real.driven_by) == ('image', 'spikes', 'membrane')
    assert (real.macs, real.sops, real.rate) == (6 * 5, 0, None)
    assert real.energy == real.dense_energy == pytest.approx(6 * 5 * 4.6)


@pytest.mark.parametrize('preset', PRESETS)
def test_presets(preset):
    model, images = small('espike'), torch.randn(1, 3, 32, 32, dtype=torch.float64)
    report = measure_energy(model, [images], preset)
    figures = report.as_dict()
    mac, ac = PRESETS[preset]
    assert figures['preset'] == dict(name=preset, mac_pj=mac, ac_pj=ac)
    total = figures['total']
    assert total['energy_mj'] == pytest.approx((total['macs'] * mac + total['sops'] * ac) * 1e-9)
    assert total['dense_energy_mj'] == pytest.approx(total['dense_macs'] * mac * 1e-9)


def test_the_network_is_left_as_it_was():
    model = small()
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    measure_energy(model, [torch.randn(1, 3, 32, 32, dtype=torch.float64)])
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == hooks == 0


def test_activity():
    activity = NeuronActivity(3)
    activity.add(torch.tensor([0.0, 1.0, 3.0, 3.0]))
    activity.add(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    assert activity.histogram == [4, 1, 1, 2]
    assert (activity.elements, activity.spikes, activity.rate) == (8, 9, 9 / 24)
    assert activity.count_distribution == [0.5, 0.125, 0.125, 0.25]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="preset='fp8' is not allowed: expected fp32, fp16, int8"):
        measure_energy(small(), [], 'fp8')
    with pytest.raises(ValueError, match='batches=0 is not allowed: expected at least one image'):
        measure_energy(small(), [])
    with pytest.raises(ValueError, match="model='Linear'"):
        measure_energy(nn.Linear(2, 2), [])
    with pytest.raises(ValueError, match='expected a spiking neuron'):
        measure_energy(small(neuron=dict(type='ReLU')), [])
