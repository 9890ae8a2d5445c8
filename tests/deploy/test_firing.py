"""Neurons in whole numbers: the spikes of the network's own, over time and for any constants that stay on a grid."""

import pytest
import torch
from deployed import pictures, plan_of, shown
from trained_networks import trained

from qsdt_mm.deploy.firing import Firing
from qsdt_mm.deploy.lowering import Value
from qsdt_mm.deploy.steps import GRID, Fire
from qsdt_mm.errors import InputError
from qsdt_mm.models import IELIF, LIF
from qsdt_mm.models.neurons import ParametricLIF


def fire_of(neuron, most):
    """The step of a neuron that receives up to ``most`` thresholds."""
    from types import SimpleNamespace

    from qsdt_mm.deploy.lowering import Lowering

    firing = Firing.of(neuron)
    settings = Lowering.over_time(None, SimpleNamespace(), firing, Value('u', 'membrane', 1.0, most))
    return Fire(
        ('u',), 'n', ratio=1.0, max_spike_count=firing.most, time_steps=firing.time_steps, nudge=0.0, **settings
    )


def received(number, most, seed=0):
    """Membranes on a plan's grid, beside halves, in thresholds."""
    generator = torch.Generator().manual_seed(seed)
    steps = (torch.randn(number, 500, generator=generator) * 0.6 / GRID).round() * GRID + GRID / 2
    return steps.clamp(-most + GRID / 2, most - GRID / 2)


NEURONS = {
    'tau 2': LIF(tau=2.0, time_steps=4),
    'reset': LIF(tau=2.0, time_steps=6, threshold=0.5, reset=-0.25),
    'tau 4': LIF(tau=4.0, time_steps=3),
    'forgets': LIF(tau=1.0, time_steps=3),
    'learned': ParametricLIF(tau=2.0, time_steps=4),
    'one step': LIF(tau=4.0),
    'decay': IELIF(decay=0.5, time_steps=5, threshold=0.5),
    'decay 3/4': IELIF(decay=0.75, time_steps=3, max_spike_count=8),
    'keeps all': IELIF(time_steps=4),
}


@pytest.mark.parametrize('name', NEURONS)
def test_the_spikes_of_the_neuron(name):
    neuron, most = NEURONS[name], 3.0
    fire, firing = fire_of(neuron, most), Firing.of(neuron)
    membrane = received(firing.time_steps * 2, most)
    with torch.no_grad():
        wanted = neuron.double().count(membrane.double() * firing.threshold)
    assert 'digits' not in fire.settings and 0 < wanted.mean() < firing.most
    assert torch.equal(fire(membrane).double(), wanted)
    assert torch.equal(fire(membrane.double()), wanted)


def test_many_steps_keep_as_many_digits_as_float32_has():
    neuron = LIF(tau=2.0, time_steps=16)
    fire = fire_of(neuron, 100.0)
    membrane = received(32, 100.0)
    assert fire.digits == 16 and not fire.coarse
    assert torch.equal(fire(membrane).double(), fire(membrane.double()))
    wanted = neuron.double().count(membrane.double() * Firing.of(neuron).threshold)
    assert (fire(membrane) != wanted).double().mean() < 1e-3


def test_large_membranes_keep_fewer_digits():
    neuron = IELIF(time_steps=4, scale=1.0)
    fire = fire_of(neuron, 2000.0)
    membrane = received(8, 2000.0)
    assert fire.digits == 11 and fire.coarse
    assert torch.equal(fire(membrane).double(), fire(membrane.double()))
    wanted = neuron.double().count(membrane.double())
    assert (fire(membrane) != wanted).double().mean() < 0.01
    with pytest.raises(InputError, match='may reach 200001 thresholds over T=4: 6 binary digits'):
        Firing.of(neuron).digits(50000.0)


@pytest.mark.parametrize(('neuron', 'message'), [
    (LIF(tau=3.0, time_steps=2), 'LIF with tau=3 over T=2 carries 0.666667 of a membrane over'),
    (LIF(tau=6.0, time_steps=2), 'tau=6 over T=2'),
    (ParametricLIF(tau=2.5, time_steps=2), 'ParametricLIF with tau=2.5 over T=2'),
    (IELIF(decay=0.3, time_steps=2), 'IELIF with decay=0.3 over T=2'),
    (IELIF(max_spike_count=128), 'D=128 exceeds 127'),
    (torch.nn.ReLU(), 'ReLU fires by another rule'),
    (type('Own', (LIF,), {})(), 'Own fires by another rule'),
])  # fmt: skip
def test_others_are_refused_by_name(neuron, message):
    with pytest.raises(InputError, match=message):
        Firing.of(neuron)


@pytest.mark.parametrize('neuron', [dict(type='LIF', tau=3.0, threshold=0.25), dict(type='ParametricLIF', tau=2.5)])
def test_one_time_step_takes_any_tau(neuron):
    network = trained('espike', neuron=neuron, max_spike_count=1)
    deployed, images = plan_of(network), shown(network, 2, seed=2)
    outputs = deployed(images)
    assert all(torch.equal(a, b) for a, b in zip(deployed.with_spikes()(images), outputs))
    with torch.no_grad():
        wanted = network((images.float() - 120) / 58)
    assert (outputs[0] - wanted[0]).square().mean() < 0.1 * wanted[0].var()


def test_a_leaky_network_is_near_its_plan():
    network = trained(
        'qsd', neuron=dict(type='LIF', threshold=0.25, tau=2.0), time_steps=4, max_spike_count=1, weight_bits=32
    )
    deployed, images = plan_of(network), pictures(2, seed=2)
    with torch.no_grad():
        wanted = network((images.float() - 120) / 58)[0]
    assert (deployed(images)[0] - wanted).square().mean() < 0.1 * wanted.var()
