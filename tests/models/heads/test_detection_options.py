"""Norms of linear layers and of the RPN, and last layers without a neuron: what heads for mmdet take besides."""

import pytest
import torch

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it
from qsdt_mm.analysis import audit
from qsdt_mm.inference import convert

pytest.importorskip('mmdet')

from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from torch import nn  # noqa: E402

KINDS = dict(
    SpikeShared2FCBBoxHead=dict(),
    SpikeConvFCBBoxHead=dict(
        num_shared_convs=1,
        num_shared_fcs=1,
        num_cls_fcs=1,
        num_reg_fcs=2,
        conv_out_channels=8,
        norm_cfg=dict(type='BN'),
    ),
)
RPN = dict(in_channels=8, feat_channels=8, loss_bbox=dict(type='L1Loss'))


def build(kind, **options):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = MODELS.build(dict(type=kind, **options))
        head.init_weights()
    return head


def box_head(kind, **options):
    sizes = dict(in_channels=8, fc_out_channels=16, roi_feat_size=3, num_classes=2)
    return build(kind, **sizes, **KINDS[kind], **options)


def settle(head, *inputs):
    """Take the statistics of one batch, then evaluate."""
    for module in head.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        head.train()(*inputs)
    return head.eval()


def flat(outputs):
    return [part for out in outputs for part in (out if isinstance(out, list) else [out])]


@pytest.mark.parametrize('kind', KINDS)
def test_linear_layers_with_norms_keep_most_neurons_firing_and_all_forms_agree(kind):
    regions = 4 * torch.randn(64, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    head = box_head(kind, fc_norm_cfg=dict(type='BN1d'), weight_bits=8)
    normed = [name for name, module in head.named_modules() if isinstance(module, nn.BatchNorm1d)]
    assert len(normed) == sum(len(part) for part in (head.shared_fcs, head.cls_fcs, head.reg_fcs))
    settle(head, regions)
    integer, spike = convert(head, 'integer'), convert(head, 'spike')
    assert not [module for module in integer.modules() if isinstance(module, nn.BatchNorm1d)]  # folded
    with torch.no_grad():
        plain, counted, spiked = head(regions), integer(regions), spike(regions)
    for a, b, c in zip(plain, counted, spiked):
        assert torch.equal(b, c) and torch.isfinite(b).all()
        assert (a - b).abs().median() <= 1e-5  # few membranes lie at a threshold
    plain = settle(box_head(kind, weight_bits=8), 10 * regions)
    rates = {}
    for name, network in dict(normed=settle(head, 10 * regions), plain=plain).items():
        unit = network.fc_reg
        seen = []
        unit.neuron.register_forward_hook(lambda module, args, out, seen=seen: seen.append(out))
        with torch.no_grad():
            network(10 * regions)
        rates[name] = (seen[0] > 0).any(0).float().mean() - (seen[0] == 4).all(0).float().mean()
    assert rates['normed'] >= rates['plain']


@pytest.mark.parametrize('kind', KINDS)
def test_last_layers_without_a_neuron_are_said_to_be_driven_by_membranes(kind):
    regions = torch.randn(16, 8, 3, 3)
    head = settle(box_head(kind, membrane_driven=['fc_cls', 'fc_reg']), regions)
    drives = {row.name.split('.')[0]: row.driven_by for row in audit(head)}
    assert drives.pop('fc_cls') == drives.pop('fc_reg') == 'membrane'
    assert drives and set(drives.values()) == {'spikes'}
    inputs = {}
    head.fc_cls.synapse.register_forward_pre_hook(lambda module, args: inputs.update(seen=args[0]))
    with torch.no_grad():
        plain, spiked = head(regions), convert(head, 'spike')(regions)
    assert (inputs['seen'] != inputs['seen'].round()).any()  # no counts
    assert all((a - b).abs().median() < 1e-5 for a, b in zip(plain, spiked))


def test_a_layer_that_is_not_there_is_one_line():
    with pytest.raises(ValueError, match=r"membrane_driven='fc_mask' is not allowed: expected one of .*fc_cls"):
        box_head('SpikeShared2FCBBoxHead', membrane_driven=['fc_mask'])
    with pytest.raises(ValueError, match='a list of names'):
        box_head('SpikeShared2FCBBoxHead', membrane_driven='fc_cls')


@pytest.mark.parametrize('convs', [1, 2])
def test_the_rpn_takes_a_norm(convs):
    maps = [torch.randn(2, 8, 12, 12), torch.randn(2, 8, 6, 6)]
    anchors = dict(type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8])
    head = build(
        'SpikeRPNHead', num_convs=convs, norm_cfg=dict(type='BN'), anchor_generator=anchors, weight_bits=4, **RPN
    )
    assert sum(isinstance(module, nn.BatchNorm2d) for module in head.modules()) == convs
    settle(head, maps)
    with torch.no_grad():
        integer, spike = (flat(convert(head, form)(maps)) for form in ('integer', 'spike'))
    assert all(torch.equal(a, b) for a, b in zip(integer, spike))
    assert not [m for m in build('SpikeRPNHead', **RPN).modules() if isinstance(m, nn.BatchNorm2d)]
