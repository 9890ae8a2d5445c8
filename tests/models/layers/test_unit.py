"""The unit and its factory."""

import math

import pytest
import torch
from torch import nn

from qsdt_mm import IELIF, LIF
from qsdt_mm.models import QuantConv2d, QuantLinear, SpikeUnit
from qsdt_mm.models.layers import UnitFactory, make_neuron
from qsdt_mm.models.layers.unit import response

QSD_NEURON = dict(type='IELIF', threshold=0.25, scale=0.25)


class Step(nn.Module):
    """An affine map that writes down its turn."""

    def __init__(self, name, factor, offset, log):
        super().__init__()
        self.name, self.factor, self.offset, self.log = name, factor, offset, log

    def forward(self, x):
        self.log.append(self.name)
        return x * self.factor + self.offset


def test_neuron_then_synapse_then_norm():
    log = []
    unit = SpikeUnit(Step('neuron', 2, 1, log), Step('synapse', 3, 5, log), Step('norm', 7, 11, log))
    log.clear()  # a unit tries its neuron when it draws its weights
    x = torch.arange(4.0)
    assert torch.equal(unit(x), ((x * 2 + 1) * 3 + 5) * 7 + 11)
    assert log == ['neuron', 'synapse', 'norm']
    assert torch.equal(unit.fire(x), x * 2 + 1)
    assert torch.equal(unit.drive(x), (x * 3 + 5) * 7 + 11)


def test_without_neuron_or_norm():
    linear, x = QuantLinear(3, 2), torch.randn(4, 3)
    unit = SpikeUnit(None, linear)
    assert unit.fire(x) is x
    assert torch.equal(unit(x), linear(x))


@pytest.mark.parametrize('weight_bits', [4, 8, 32])
@pytest.mark.parametrize(
    'neuron',
    [QSD_NEURON, dict(type='IELIF'), dict(type='LIF'), dict(type='ReLU')],
    ids=['qsd', 'espike', 'lif', 'relu'],
)
def test_new_weights_keep_unit_variance(neuron, weight_bits):
    """The centre of the map, away from borders, has second moment 1 for a standard normal membrane."""
    factory = UnitFactory(neuron, 4, 1, weight_bits)
    unit = factory.conv_unit(32, 64, 3, bias=True)
    membrane = torch.randn(64, 32, 6, 6)
    out = unit.synapse(unit.fire(membrane))[:, :, 1:-1, 1:-1]
    assert out.square().mean().item() == pytest.approx(1, rel=0.15)
    assert (unit.synapse.bias == 0).all()


def test_a_chain_keeps_unit_variance_at_every_link():
    factory = UnitFactory(QSD_NEURON, 4, 1, 32)
    unit = SpikeUnit(factory.make_neuron(), nn.Sequential(factory.conv(64, 64), factory.conv(64, 128)))
    spikes = unit.fire(torch.randn(64, 64, 4, 4))
    first = unit.synapse[0](spikes)
    assert first.square().mean().item() == pytest.approx(1, rel=0.15)
    assert unit.synapse[1](first).square().mean().item() == pytest.approx(1, rel=0.15)


def test_new_weights_come_with_their_steps():
    synapse = UnitFactory(QSD_NEURON, 4, 1, 4).conv_unit(8, 8, 3).synapse
    expected = 2 * synapse.weight.abs().mean().item() / math.sqrt(7)
    assert synapse.quantizer.step.tolist() == pytest.approx([expected] * 8)


def second_moment(neuron):
    return response(neuron).square().mean().item()


def tail(x):
    """P(u >= x) of a standard normal u."""
    return math.erfc(x / math.sqrt(2)) / 2


@pytest.mark.parametrize('threshold', [0.25, 1.0, 2.0])
@pytest.mark.parametrize('max_spike_count', [1, 4, 8])
def test_second_moment_is_the_closed_form(threshold, max_spike_count):
    # E[n^2] = sum over d of (d^2 - (d-1)^2) P(n >= d)
    moment = sum((2 * d - 1) * tail((d - 0.5) * threshold) for d in range(1, max_spike_count + 1))
    assert second_moment(IELIF(threshold, 0.5, max_spike_count)) == pytest.approx(moment / 4, rel=0.02)


def test_second_moment_of_other_activations():
    assert second_moment(nn.ReLU()) == pytest.approx(0.5, rel=1e-3)
    assert second_moment(nn.Identity()) == pytest.approx(1.0, rel=1e-3)
    # One step of LIF fires where u / tau >= threshold.
    assert second_moment(LIF(1.0, 3.0, tau=2.0)) == pytest.approx(9 * tail(2.0), rel=0.02)


@pytest.mark.parametrize('neuron', [IELIF(1.0, 0.25, 4, 3, 0.5), LIF(0.5, 2.0, 3)])
def test_second_moment_over_time_is_that_of_a_steady_input(neuron):
    membrane = torch.randn(200_000, dtype=torch.float64)
    expected = neuron(membrane.repeat(3)).square().mean().item()
    assert second_moment(neuron) == pytest.approx(expected, rel=0.02)


def test_a_silent_neuron_counts_as_one():
    assert second_moment(IELIF(threshold=100.0)) == 0.0
    unit = SpikeUnit(IELIF(threshold=100.0), QuantConv2d(400, 40, 1))
    assert unit.synapse.weight.std().item() == pytest.approx(400**-0.5, rel=0.05)


def test_response_to_a_narrower_membrane():
    # E[n] = sum over d of P(n >= d)
    mean = sum(tail((d - 0.5) * 0.25 / 0.3) for d in range(1, 5))
    assert response(IELIF(0.25, 0.5, 4), 0.3).mean().item() == pytest.approx(mean / 2, rel=0.01)


def test_response_leaves_the_neuron_alone():
    neuron = nn.PReLU()
    response(neuron)
    assert neuron.weight.dtype is torch.float32 and neuron.weight.grad is None


def test_factory_fills_in_levels_and_time():
    neuron = UnitFactory(dict(type='IELIF', threshold=0.5), 6, 3, 4).make_neuron()
    assert (neuron.threshold, neuron.max_spike_count, neuron.time_steps, neuron.scale) == (0.5, 6, 3, 1 / 6)
    lif = UnitFactory(dict(type='LIF'), 6, 3, 4).make_neuron()
    assert (lif.max_spike_count, lif.time_steps) == (1, 3)


class PassesAllOn(IELIF):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)


class PassesTheRestOn(PassesAllOn):
    def __init__(self, threshold=0.5, *args, **kwargs):
        max_spike_count = 2  # a local variable is no argument
        super().__init__(*args, threshold=threshold / max_spike_count, **kwargs)


class SaysNothing(PassesTheRestOn):
    pass


class TakesNeither(LIF):
    def __init__(self, **kwargs):
        max_spike_count = 1
        super().__init__(tau=2.0 * max_spike_count, **kwargs)


def made_by_a_function(max_spike_count=4, time_steps=1):
    return IELIF(max_spike_count=max_spike_count, time_steps=time_steps)


@pytest.mark.parametrize('kind', [PassesAllOn, PassesTheRestOn, SaysNothing, made_by_a_function])
def test_factory_fills_in_through_the_bases(kind):
    neuron = UnitFactory(dict(type=kind), 8, 3, 4).make_neuron()
    assert (neuron.max_spike_count, neuron.time_steps) == (8, 3)


def test_factory_fills_in_nothing_that_is_not_taken():
    neuron = UnitFactory(dict(type=TakesNeither), 8, 3, 4).make_neuron()
    assert (neuron.max_spike_count, neuron.time_steps) == (1, 3)


class OneStepOnly(IELIF):
    def __init__(self, max_spike_count=4):
        super().__init__(max_spike_count=max_spike_count)


def test_a_neuron_that_knows_no_time_is_refused_where_there_is_time():
    assert UnitFactory(dict(type=OneStepOnly), 8, 1, 4).make_neuron().max_spike_count == 8
    with pytest.raises(ValueError, match=r'^OneStepOnly\.time_steps=1 .* 3$'):
        UnitFactory(dict(type=OneStepOnly), 8, 3, 4).make_neuron()


def test_what_the_config_says_wins():
    neuron = UnitFactory(dict(type='IELIF', max_spike_count=2, time_steps=5, scale=1.0), 6, 3, 4).make_neuron()
    assert (neuron.max_spike_count, neuron.time_steps, neuron.scale) == (2, 5, 1.0)


def test_scale_factor_is_on_top():
    factory = UnitFactory(QSD_NEURON, 4, 1, 4)
    assert factory.make_neuron(scale_factor=2.0).scale == 0.5
    assert factory.make_neuron().scale == 0.25


def test_the_config_is_not_changed():
    config = dict(QSD_NEURON)
    make_neuron(config, 4, 2, 2.0)
    assert config == QSD_NEURON


@pytest.mark.parametrize('kind', ['ReLU', nn.ReLU, 'IELIF', IELIF])
def test_types_by_name_or_class(kind):
    assert type(make_neuron(dict(type=kind), 4, 1)).__name__ in ('ReLU', 'IELIF')


@pytest.mark.parametrize('config', [dict(type='Perceptron'), dict(threshold=1.0), 'IELIF', None, dict(type=3)], ids=str)
def test_an_unknown_neuron_is_refused(config):
    with pytest.raises(ValueError) as error:
        make_neuron(config, 4, 1)
    message = str(error.value)
    assert message.startswith('neuron=') and 'IELIF' in message and 'LIF' in message
    assert not isinstance(config, dict) or 'type' not in config or repr(config['type']) in message


def test_a_bad_constant_of_the_neuron_is_refused_by_name():
    with pytest.raises(ValueError, match='^threshold=0 '):
        make_neuron(dict(type='IELIF', threshold=0), 4, 1)


def test_factory_makes_low_bit_convolutions():
    factory = UnitFactory(QSD_NEURON, 4, 1, 3)
    conv, depthwise = factory.conv(4, 6, 5, stride=2), factory.depthwise(4, 3)
    assert (conv.quantizer.bits, conv.padding, conv.stride, conv.bias) == (3, (2, 2), (2, 2), None)
    assert (depthwise.groups, depthwise.padding) == (4, (1, 1))
    assert factory.depthwise(4, 3, padding=0).padding == (0, 0)
    unit = factory.unit(conv, 6)
    assert unit.synapse is conv and unit.norm.num_features == 6 and unit.neuron.max_spike_count == 4


def test_what_drives_a_synapse():
    made = UnitFactory(dict(type='IELIF'), 4, 1, 32)
    assert made.conv_unit(2, 2).driven_by == 'spikes'
    assert SpikeUnit(None, made.conv(2, 2)).driven_by == 'image'
    assert SpikeUnit(None, made.conv(2, 2), input_kind='membrane').driven_by == 'membrane'


def test_units_can_be_built_without_memory():
    with torch.device('meta'):
        unit = UnitFactory(dict(type='IELIF'), 4, 1, 4).conv_unit(2**16, 2**16)
    assert unit.synapse.weight.is_meta and unit.synapse.quantizer.step.is_meta
