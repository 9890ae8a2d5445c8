"""Layers outside units: found whatever their kind, and their multiply-accumulates counted where they are made."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import DeformConv2d

from qsdt_mm import IELIF
from qsdt_mm.analysis import audit, measure_energy
from qsdt_mm.models import QuantConv2d, QuantLinear, SpikeUnit
from qsdt_mm.models.layers import layers_of, layers_outside_units, named_units
from qsdt_mm.models.layers.float_layers import counting_macs, float_share, percent


class Call(nn.Module):
    """A layer that is called with more than its input, or puts out more than one tensor."""

    def __init__(self, layer, call):
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x):
        return self.call(self.layer, x)


class Attention(nn.Module):
    """As timm and the libraries write it: linear layers, and products that no module holds."""

    def __init__(self, width, heads, fused):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.fused = heads, fused

    def forward(self, x):
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = (query @ key.mT).softmax(-1) @ value
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Standardised(nn.Conv2d):
    """A convolution that computes with another weight than its own."""

    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean(), None, self.stride, self.padding)


def self_attention(layer, x):
    return layer(x, x, x, need_weights=False)[0]


IMAGE, TOKENS = torch.randn(2, 4, 6, 5), torch.randn(2, 7, 8)
# Input, layers by name, and multiply-accumulates by name.
OTHERS = {
    'conv1d': (nn.Conv1d(7, 6, 3), TOKENS, {'': 2 * 6 * 6 * 7 * 3}),
    'conv3d': (nn.Conv3d(1, 2, 3, padding=1), IMAGE[:, None], {'': 2 * 2 * 120 * 27}),
    'grouped': (nn.Conv2d(4, 8, 3, 2, 1, groups=2), IMAGE, {'': 2 * 8 * 9 * 2 * 9}),
    'deconv': (nn.ConvTranspose2d(4, 3, 2, 2), IMAGE, {'': 2 * 4 * 30 * 3 * 4}),
    'standardised': (Standardised(4, 3, 3, padding=1), IMAGE, {'': 2 * 3 * 30 * 36}),
    'deformable': (
        Call(DeformConv2d(4, 3, 3, padding=1), lambda f, x: f(x, x.new_zeros(len(x), 18, *x.shape[2:]))),
        IMAGE,
        {'layer': 2 * 3 * 30 * 36},
    ),
    'bilinear': (Call(nn.Bilinear(8, 8, 3), lambda f, x: f(x, x)), TOKENS, {'layer': 2 * 7 * 3 * 64}),
    'attention': (
        Call(nn.MultiheadAttention(8, 2, batch_first=True), self_attention),
        TOKENS,
        {'layer': 14 * 4 * 64 + 2 * 2 * 49 * 8},
    ),
    'encoder': (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        TOKENS,
        {'self_attn': 14 * 4 * 64 + 2 * 2 * 49 * 8, 'linear1': 14 * 8 * 16, 'linear2': 14 * 8 * 16},
    ),
    'plain attention': (Attention(8, 2, False), TOKENS, {'': 2 * 2 * 49 * 8, 'qkv': 14 * 192, 'proj': 14 * 64}),
    'fused attention': (Attention(8, 2, True), TOKENS, {'': 2 * 2 * 49 * 8, 'qkv': 14 * 192, 'proj': 14 * 64}),
    'lstm': (
        Call(nn.LSTM(8, 5, batch_first=True), lambda f, x: f(x)[0]),
        TOKENS,
        {'layer': 14 * 4 * 5 * (8 + 5)},
    ),
    'gru cell': (Call(nn.GRUCell(8, 5), lambda f, x: f(x[:, 0])), TOKENS, {'layer': 2 * 3 * 5 * (8 + 5)}),
}


PRODUCTS = {
    'matrices': (lambda a, b: a @ b, (5, 3), (3, 4), 60),
    'batches': (lambda a, b: a @ b, (2, 5, 3), (2, 3, 4), 120),
    'broadcast': (lambda a, b: a @ b, (2, 1, 5, 3), (7, 3, 4), 840),
    'vector': (lambda a, b: a @ b, (5, 3), (3,), 15),
    'vectors': (lambda a, b: a @ b, (3,), (3,), 3),
    'einsum': (lambda a, b: torch.einsum('nqc,nchw->nqhw', a, b), (2, 5, 3), (2, 3, 4, 6), 720),
    'one image': (lambda a, b: F.conv2d(a, b), (3, 5, 5), (4, 3, 3, 3), 4 * 9 * 27),
    'bilinear': (lambda a, b: torch.einsum('nc,nc->n', a, b), (2, 3), (2, 3), 6),
    'cross': (lambda a, b: F.scaled_dot_product_attention(a, b, b), (2, 2, 5, 4), (2, 2, 3, 4), 2 * 2 * 5 * 3 * 8),
}


@pytest.mark.parametrize('inference_mode', [False, True])
@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('kind', PRODUCTS)
def test_products(kind, device, inference_mode):
    product, left, right, expected = PRODUCTS[kind]
    with torch.inference_mode(inference_mode), counting_macs(nn.Identity()) as macs:
        product(torch.ones(left, device=device), torch.ones(right, device=device))
    assert macs == {'': expected}


@pytest.mark.parametrize('inference_mode', [False, True])
@pytest.mark.parametrize('kind', OTHERS)
def test_multiply_accumulates_of_layers_of_others(kind, inference_mode):
    module, values, expected = OTHERS[kind]
    module.eval()
    with torch.inference_mode(inference_mode), torch.no_grad(), counting_macs(module) as macs:
        module(values)
    if kind == 'encoder' and '' in macs:  # older versions of torch compute it in one operation
        assert macs == {'': sum(expected.values())}
    else:
        assert macs == expected
    assert not module._forward_hooks and not module._forward_pre_hooks


@pytest.mark.parametrize('kind', OTHERS)
def test_views_list_layers_of_others(kind):
    module, values, expected = OTHERS[kind]
    model = nn.Sequential(
        SpikeUnit(None, QuantConv2d(4, 4, 1)), SpikeUnit(IELIF(), QuantConv2d(4, 4, 1)), module
    ).eval()

    def run(network):
        network[:2](IMAGE)
        network[2](values)

    expected = {f'2.{name}'.rstrip('.'): count for name, count in expected.items()}
    weighted = {name for name, _ in layers_outside_units(model)}
    assert weighted <= expected.keys()
    assert {row.name for row in audit(model) if row.driven_by == 'floats'} == weighted
    with torch.no_grad():
        rows = {row.name: row for row in audit(model, run) if row.driven_by == 'floats'}
    assert rows.keys() == expected.keys()
    assert all((row.weights > 0) == (name in weighted) for name, row in rows.items())
    report = measure_energy(model, [None], run=lambda batch: run(model) or 1)
    assert {row.name: row.macs for row in report.outside} == expected
    share = float_share(model, run)
    inside = 2 * 2 * 16 * 30
    assert set(share.outside) == set(expected) and share.share == sum(expected.values()) / (
        sum(expected.values()) + inside
    )
    assert share.real == ('0.synapse',) and share.layers == 2 + len(expected)


def test_what_multiplies_nothing_is_no_layer():
    others = [nn.Embedding(3, 4), nn.LayerNorm((2, 3)), nn.GroupNorm(2, 4), nn.BatchNorm2d(3), nn.PReLU(), nn.ReLU()]
    assert layers_outside_units(nn.Sequential(*others)) == []
    unit = SpikeUnit(IELIF(), QuantConv2d(2, 2, 1), nn.BatchNorm2d(2))
    assert layers_outside_units(nn.Sequential(unit)) == []
    assert [name for name, _ in layers_of(unit)] == ['synapse']
    assert dict(named_units(nn.Sequential(unit))) == {'0': unit}


def test_a_layer_in_a_unit_but_not_in_its_synapse_is_outside():
    class Conditioned(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Conv2d(2, 2, 1)

        def forward(self, x):
            return self.mix(x)

    model = nn.Sequential(SpikeUnit(IELIF(), QuantConv2d(2, 2, 1), Conditioned()))
    assert [name for name, _ in layers_outside_units(model)] == ['0.norm.mix']
    assert [row.name for row in audit(model) if row.driven_by == 'floats'] == ['0.norm.mix']
    report = measure_energy(model.eval(), [torch.randn(1, 2, 3, 3)])
    assert {row.name: row.macs for row in report.outside} == {'0.norm.mix': 36}


def test_an_activation_that_does_not_spike_drives_with_floats():
    model = nn.Sequential(SpikeUnit(nn.ReLU(), QuantLinear(2, 2)))
    assert [row.driven_by for row in audit(model)] == ['floats']
    assert float_share(model).real == ('0.synapse',)


def test_what_only_training_needs_does_not_count():
    model = nn.Module()
    for name in ('auxiliary_head', 'loss_cls', 'loss', 'distillation', 'teacher', 'lossless', 'head'):
        setattr(model, name, nn.Sequential(nn.Linear(2, 2)))
    assert [name for name, _ in layers_outside_units(model)] == ['lossless.0', 'head.0']


def test_what_does_not_run_on_one_image_is_named_all_the_same():
    """As a mask head on an image without objects."""
    model = nn.Sequential(SpikeUnit(None, QuantConv2d(3, 3, 1)), nn.Conv2d(3, 3, 1))
    model.spare = nn.Linear(2, 2)
    share = float_share(model.eval(), lambda network: network[:2](torch.randn(1, 3, 4, 4)))
    assert share.outside == ('1', 'spare') and share.share == 0.5
    with pytest.raises(ValueError, match=r'2 of 3 layers are outside units and stay in floats \(1, spare\): 50.0 %'):
        share.require_spikes()


def test_shares_of_weights_where_no_image_passes():
    model = nn.Sequential(
        SpikeUnit(None, QuantLinear(2, 4)), SpikeUnit(IELIF(), QuantLinear(4, 4)), nn.Linear(4, 4, False)
    )
    share = float_share(model.eval())
    assert share.outside == ('2',) and share.share == 16 / 40 and share.real_share == 8 / 40
    assert str(share) == (
        '1 of 3 layers is outside units and stays in floats (2): 40.0 % of the weights (multiply-accumulates were not '
        'counted: the network takes other inputs); in units, 1 multiply real inputs (image, membranes): 20.0 %'
    )


def test_an_error_that_somebody_catches_does_not_confuse_the_names():
    class Tries(nn.Module):
        def __init__(self):
            super().__init__()
            self.bad, self.good = nn.Linear(5, 2, bias=False), nn.Linear(4, 2)

        def forward(self, x):
            try:
                return self.bad(x)
            except RuntimeError:
                return self.good(x)

    model = nn.Sequential(Tries(), nn.Linear(2, 6))
    with torch.no_grad(), counting_macs(model) as macs:
        model(torch.ones(1, 4))
    assert macs == {'0.good': 8, '1': 12}


@given(share=st.floats(0, 1))
@settings(max_examples=200)
def test_only_nothing_is_0_percent_and_only_all_is_100(share):
    number = float(percent(share).removesuffix(' %'))
    assert number == pytest.approx(100 * share, abs=0.05 + 1e-9)
    if 1e-9 < share < 1 - 1e-9 or share in (0, 1):
        assert (number == 0, number == 100) == (share == 0, share == 1)
