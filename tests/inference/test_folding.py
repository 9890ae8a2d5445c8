"""A network with folded norms is the same function, made of plain layers."""

import pytest
import torch
from torch import nn
from trained_networks import membranes, trained

from qsdt_mm.inference import fold_norms
from qsdt_mm.models import SpikeUnit
from qsdt_mm.models.layers import RepConvBN, UnitFactory


@pytest.mark.parametrize(
    'options',
    [
        dict(family='qsd'),
        dict(family='espike', weight_bits=32, time_steps=2),
        dict(family='espike-large', neuron=dict(type='ReLU')),
        dict(family='qsd', neuron=dict(type='LIF'), weight_bits=2),
    ],
    ids=str,
)
def test_it_is_the_same_function(options):
    model = trained(**options).double()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    image = torch.randn(2, 3, 33, 47).double()
    folded = fold_norms(model)
    wanted, found = membranes(model, image), membranes(folded, image)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items()), 'left alone'
    units = [m for m in folded.modules() if isinstance(m, SpikeUnit)]
    kinds = {type(m) for unit in units for m in unit.synapse}
    assert kinds == {nn.Conv2d} and all(unit.norm is None for unit in units)
    assert not any(m.training for m in folded.modules()) and not any(p.requires_grad for p in folded.parameters())


def test_linear_transposed_and_bordered_layers():
    torch.manual_seed(0)
    factory = UnitFactory(dict(type='IELIF'), 4, 1, 4)
    from qsdt_mm.models.quantization import QuantConvTranspose2d, QuantLinear

    chain = RepConvBN(factory, 6)
    for norm in (m for m in chain.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.bias, -1, 1)
    for synapse, norm, shape in (
        (QuantLinear(6, 5), nn.BatchNorm1d(5), (3, 6)),
        (QuantConvTranspose2d(6, 5, 2, stride=2), nn.BatchNorm2d(5), (3, 6, 4, 5)),
        (chain, nn.BatchNorm2d(6), (3, 6, 4, 5)),
    ):
        nn.init.uniform_(norm.running_var, 0.5, 2)
        unit = nn.Sequential(SpikeUnit(factory.make_neuron(), synapse, norm)).eval()
        membrane = torch.randn(shape)
        torch.testing.assert_close(fold_norms(unit)(membrane), unit(membrane), rtol=1e-4, atol=1e-5)


def test_networks_without_units_are_refused():
    with pytest.raises(ValueError, match="model='Linear' is not allowed: expected a network made of spike units"):
        fold_norms(nn.Linear(2, 2))
