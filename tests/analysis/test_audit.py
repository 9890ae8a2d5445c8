"""The audit names every layer once and says what drives it."""

import pytest
import torch
from torch import nn

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.analysis import audit
from qsdt_mm.analysis.audit import layers_of, merged, named_units
from qsdt_mm.models.layers import RepConvBN, UnitFactory


def tiny(family):
    arch = dict(family=family, widths=(4, 4, 8, 8, 16), depths=(1, 1, 1, 1, 1), num_heads=2)
    if family == 'espike-large':
        arch |= dict(widths=(4, 4, 8, 8), depths=(1, 1, 1, 2), pointwise_branch=True)
    return SpikeDrivenTransformer(arch)


@pytest.mark.parametrize('family', ['qsd', 'espike', 'espike-large'])
def test_every_layer_is_named_once(family):
    model = tiny(family)
    rows = audit(model)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    assert sorted(row.name for row in rows) == sorted(layers)
    for row in rows:
        assert row.weights == layers[row.name].weight.numel()
        assert row.weight_bits == (4 if family == 'qsd' else 32)


def test_espike_is_spike_driven_but_for_the_encoding_layer():
    driven = {row.name: row.driven_by for row in audit(tiny('espike'))}
    assert {name for name, by in driven.items() if by != 'spikes'} == {'stages.0.downsample.synapse'}


def test_qsd_has_inner_layers():
    """Of each RepConv two layers, of each separable convolution one, see membranes."""
    rows = audit(tiny('qsd'))
    inner = [row for row in rows if row.driven_by == 'membrane']
    assert len(inner) == 2 * 4 * 2 + 3 * 1
    assert {row.kind for row in inner} == {'conv 1x1', 'conv 3x3 depthwise'}
    chains = {row.name: row.merged_weights for row in rows if row.merged_weights}
    assert len(chains) == 2 * 4 + 3
    assert chains['stages.3.blocks.0.0.branch.query.synapse.0'] == 8 * 8 * 9
    assert chains['stages.0.blocks.0.0.branch.1.synapse.0'] == 4 * 8 * 49


def test_the_large_sizes_have_an_inner_layer_in_each_chain():
    """Four chains in each attention and one in each branch; merged, each is one pointwise convolution."""
    rows = audit(tiny('espike-large'))
    assert [row.driven_by for row in rows].count('image') == 1
    inner = [row for row in rows if row.driven_by == 'membrane']
    chains = [row for row in rows if row.merged_weights]
    assert len(inner) == len(chains) == 2 * 5
    assert {row.merged_weights for row in chains} == {8 * 8}
    assert {row.kind for row in inner} == {'conv 1x1'}


def test_a_chain_merges_into_a_layer_of_that_shape():
    """The whole chain really is one convolution: its response to single pixels is its kernel."""
    torch.manual_seed(0)
    factory = UnitFactory(dict(type='IELIF'), 4, 1, 4)
    unit = factory.unit(RepConvBN(factory, 3), 3).double().eval()
    for norm in (m for m in unit.synapse.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.bias, -1, 1)
    layer = merged(unit)
    chain = unit.synapse
    centre, zero = torch.zeros(3, 3, 5, 5, dtype=torch.float64), torch.zeros(1, 3, 5, 5, dtype=torch.float64)
    centre[range(3), range(3), 2, 2] = 1
    bias = chain(zero)[0, :, 2, 2]
    kernel = (chain(centre) - chain(zero)).flip(2, 3)[:, :, 1:4, 1:4].transpose(0, 1)
    image = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    out = nn.functional.conv2d(image, kernel, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    assert out.shape[1] == layer.out_channels and kernel.shape == layer.weight.shape
    assert torch.allclose(out, chain(image), atol=1e-12)


def test_units_have_layers():
    assert all(layers_of(unit) for _, unit in named_units(tiny('qsd')))
