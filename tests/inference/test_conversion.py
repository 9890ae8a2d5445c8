"""Converted networks: integer and spike modes have the same bits, and agree with the float network unit by unit."""

import copy

import pytest
import torch
from torch import nn
from trained_networks import assert_same_bits, exact_forms, membranes, trained

from qsdt_mm.analysis.unit_errors import unit_errors
from qsdt_mm.inference import ExactAttention, ExactSynapse, convert
from qsdt_mm.inference.exact import accumulator_dtype_for
from qsdt_mm.models import SpikeUnit
from qsdt_mm.models.layers import RepConvBN, SpikeDrivenSelfAttention, UnitFactory
from qsdt_mm.models.quantization import QuantConv2d

LIF = dict(type='LIF', tau=1.5, threshold=0.5, scale=0.5)


NETWORKS = [
    dict(family='qsd'),
    dict(family='espike'),
    dict(family='espike-large'),
    dict(family='espike-large', weight_bits=8, max_spike_count=8, time_steps=2),
    dict(family='qsd', weight_bits=8, max_spike_count=8),
    dict(family='espike', weight_bits=2, max_spike_count=1),
    dict(family='qsd', weight_bits=3, time_steps=3),
    dict(family='espike', max_spike_count=2, time_steps=2, neuron=dict(type='IELIF', decay=0.5)),
    dict(family='qsd', neuron=LIF, time_steps=2),
    dict(family='espike', max_spike_count=3),
    dict(family='qsd', max_spike_count=15, time_steps=2),
]


@pytest.mark.parametrize('options', NETWORKS, ids=str)
@pytest.mark.parametrize('size', [(32, 32), (33, 47)], ids=str)
def test_integer_and_spike_have_the_same_bits(options, size):
    model = trained(**options)
    image = torch.randn(2, 3, *size)
    integer, *spiking = (membranes(form, image) for form in exact_forms(model).values())
    for spike in spiking:
        assert_same_bits(integer, spike)


def units_by_name(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, SpikeUnit)}


@pytest.mark.parametrize('options', NETWORKS, ids=str)
def test_units_agree_with_float(options):
    """Given the float network's own spikes, each unit of the integer network gives the same membranes."""
    model = trained(**options)
    errors = unit_errors(model, convert(model, 'integer'), lambda network: network(torch.randn(2, 3, 64, 64)))
    assert errors.keys() == units_by_name(model).keys()
    assert max(errors.values()) < 1e-4
    assert not any('drive' in vars(unit) for unit in units_by_name(model).values())


def test_attention_agrees_with_float():
    model = trained('espike')
    name, attention = next((n, m) for n, m in model.named_modules() if isinstance(m, SpikeDrivenSelfAttention))
    exact = convert(model, 'integer').get_submodule(name)
    count = torch.randint(0, 5, (3, 2, 4, 4, 30)).float()
    scaled = (c * n.scale for c, n in zip(count, attention.neurons))
    assert torch.allclose(attention.product(*scaled), exact.product(*count), rtol=1e-6)


@pytest.mark.parametrize(('coding', 'passes'), [('unary', 4), ('bitwise', 3)])
def test_every_synapse_receives_spikes(coding, passes):
    """In spike mode the first layer of every unit after the encoding one, and both products, see zeros and ones."""
    model = convert(trained(max_spike_count=4), 'spike', coding=coding)
    checked = []
    for module in model.modules():
        if isinstance(module, ExactSynapse) and module.max_spike_count is not None:
            first = module.layers[0]

            def linear(values, first=first):
                assert set(values.unique().tolist()) <= {0.0, 1.0}
                checked.append(first)
                return type(first).linear(first, values)

            first.linear = linear
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32))
    synapses = [m for m in model.modules() if isinstance(m, ExactSynapse) and m.max_spike_count is not None]
    assert len(checked) == passes * len(synapses)


def test_the_original_is_left_alone():
    model = trained()
    before, image = copy.deepcopy(model.state_dict()), torch.randn(1, 3, 32, 32)
    expected = membranes(model, image)
    model.train()
    converted = convert(model, 'spike')
    assert not any(m.training for m in converted.modules())
    converted(image)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert_same_bits(membranes(model.eval(), image), expected)


def test_weights_are_integers_and_nothing_is_left_of_norms():
    model = convert(trained(weight_bits=3), 'integer')
    synapses = [m for m in model.modules() if isinstance(m, ExactSynapse)]
    weights = [layer.weight for synapse in synapses for layer in synapse.layers]
    assert all(w.dtype is torch.int8 and w.min() >= -4 and w.max() <= 3 for w in weights)
    assert not [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, QuantConv2d))]
    assert not list(model.parameters()) or not any(p.requires_grad for p in model.parameters())


def test_a_padding_norm_without_a_bias_is_folded_exactly():
    torch.manual_seed(0)
    factory = UnitFactory(dict(type='IELIF'), 4, 1, 4)
    unit = factory.unit(RepConvBN(factory, 6), 6).double().eval()
    for module in unit.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                nn.init.uniform_(tensor, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    membrane = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    exact = convert(nn.Sequential(unit), 'integer')
    assert torch.allclose(exact(membrane), unit(membrane), rtol=1e-12, atol=1e-12)


class TestRealWeights:
    def test_integer_asks_for_bits(self):
        model = trained('espike', weight_bits=32)
        with pytest.raises(ValueError, match='weight_bits=None is not allowed: expected 2, 3, 4 or 8: stages.0'):
            convert(model, 'integer')

    def test_bits_on_request(self):
        model = trained('espike', weight_bits=32)
        image = torch.randn(2, 3, 32, 32)
        integer = convert(model, 'integer', weight_bits=8)
        assert_same_bits(membranes(integer, image), membranes(convert(model, 'spike', weight_bits=8), image))
        name, unit = next((n, u) for n, u in units_by_name(model).items() if u.neuron is not None)
        layer = integer.get_submodule(name).synapse.layers[0]
        weight = unit.synapse.weight
        assert layer.weight.abs().flatten(1).amax(1).unique().tolist() == [127]  # the largest of each channel
        step = weight.abs().flatten(1).amax(1) / 127
        restored = layer.weight * step.view(-1, 1, 1, 1)
        assert (restored - weight).abs().max() <= step.max() / 2 * 1.0001

    def test_spikes_on_real_weights(self):
        """Each unit within 1e-6 of float, given equal spikes."""
        model = trained('espike', weight_bits=32).double()
        exact = units_by_name(convert(model, 'spike'))
        for name, unit in units_by_name(model).items():
            if unit.neuron is None:
                continue
            layer = next(m for m in unit.synapse.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
            count = torch.randint(0, 5, (2, layer.in_channels, 6, 6)).double()
            expected = unit.drive(count * unit.neuron.scale)
            error = (exact[name].drive(count) - expected).abs().max() / expected.abs().max()
            assert error < 1e-6, name


class TestCarriers:
    def test_the_narrowest_that_is_exact(self):
        assert accumulator_dtype_for(2**24) is torch.float32
        assert accumulator_dtype_for(2**24 + 1) is torch.float64
        with pytest.raises(OverflowError, match='9007199254740993'):
            accumulator_dtype_for(2**53 + 1)

    def test_attention_on_a_large_image(self):
        """D = 8 and 128 x 128 tokens: float32 would round."""
        channels, tokens = 80, 128 * 128
        query, key, value = (torch.full((1, 1, c, tokens), 7.0) for c in (channels, channels, 2))
        key[..., 0, 0] = 6.0
        attention = ExactAttention(1.0, (8, 8, 8), spiking=False)
        assert attention.bound(key) > 2**24
        expected = 7**3 * channels * tokens - 7**2
        assert expected != int(
            torch.tensor(expected, dtype=torch.float32)
        )  # the test would see a narrow accumulator_dtype
        exact = attention(query.double(), key.double(), value.double())
        assert exact.unique().tolist() == [expected]
        attention.spiking = True
        assert torch.equal(attention(query.double(), key.double(), value.double()), exact)
        assert attention(query, key, value).dtype is torch.float32

    def test_a_wide_synapse(self):
        """Eight bits and D = 8 over a fan-in of 20,000."""
        unit = SpikeUnit(
            UnitFactory(dict(type='IELIF'), 8, 1, 8).make_neuron(), QuantConv2d(20_000, 1, 1, weight_bits=8)
        )
        nn.init.constant_(unit.synapse.weight, 1.0)
        nn.init.constant_(unit.synapse.quantizer.step, 1 / 127)
        for mode in ('integer', 'spike'):
            synapse = convert(nn.Sequential(unit), mode)[0].synapse
            assert synapse.accumulator_dtype is torch.float64
            count = torch.full((1, 20_000, 1, 1), 8.0)
            count[0, 0] = 7
            assert synapse.sums(count).item() == 127 * (8 * 20_000 - 1)

    def test_narrow_networks_stay_narrow(self):
        model = convert(trained(), 'integer')
        accumulator_dtypes = {
            m.accumulator_dtype
            for m in model.modules()
            if isinstance(m, ExactSynapse) and m.max_spike_count is not None
        }
        assert accumulator_dtypes == {torch.float32}


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (dict(mode='binary'), "mode='binary' is not allowed: expected integer or spike"),
        (dict(mode='spike', weight_bits=5), 'weight_bits=5'),
        (dict(mode='spike', weight_bits=32), 'weight_bits=32'),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        convert(trained(), **arguments)


def test_networks_that_do_not_spike_are_refused():
    with pytest.raises(ValueError, match="neuron='ReLU' is not allowed: expected a spiking neuron"):
        convert(trained(neuron=dict(type='ReLU')), 'integer')
    with pytest.raises(ValueError, match="model='Linear' is not allowed: expected a network made of spike units"):
        convert(nn.Linear(2, 2), 'integer')


def test_a_norm_that_depends_on_the_input_stays():
    factory = UnitFactory(dict(type='IELIF'), 4, 1, 4)
    torch.manual_seed(0)
    units = [SpikeUnit(factory.make_neuron(), factory.conv(8, 8, 3), nn.GroupNorm(2, 8)) for _ in range(2)]
    model = nn.Sequential(*units).eval()
    membrane = torch.randn(2, 8, 5, 5)
    integer, spike = (convert(model, mode)(membrane) for mode in ('integer', 'spike'))
    assert torch.equal(integer, spike)
    assert torch.allclose(integer, model(membrane), atol=1e-4)


def test_paddings_other_than_zeros_are_refused():
    unit = SpikeUnit(
        UnitFactory(dict(type='IELIF'), 4, 1, 4).make_neuron(), QuantConv2d(2, 2, 3, padding=1, padding_mode='circular')
    )
    with pytest.raises(ValueError, match="padding_mode='circular' is not allowed: expected zeros"):
        convert(nn.Sequential(unit), 'integer')
