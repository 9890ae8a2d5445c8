"""Stock heads and necks on our backbone are in every view: listed, counted, said when converted, refused on demand."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from stock_parts import CASES, build, stock_layers
from torch import nn

from qsdt_mm.analysis import audit, measure_energy
from qsdt_mm.inference import convert, fold_norms
from qsdt_mm.models.layers import layers_outside_units
from qsdt_mm.models.layers.float_layers import float_share


@pytest.fixture(scope='module', params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope='module')
def model(case):
    return build(case)


def work_of(model, image):
    """Dense multiply-accumulates of each layer, counted another way: outputs times weights of one."""
    work, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):

            def count(module, args, output, name=name):
                work[name] = work.get(name, 0) + output.numel() * module.weight[0].numel()

            hooks.append(module.register_forward_hook(count))
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return work


def test_the_audit_lists_them(model, case):
    stock = stock_layers(model, case)
    assert stock
    rows = {row.name: row for row in audit(model)}
    assert {name for name, row in rows.items() if row.driven_by == 'floats'} == stock
    for name in stock:
        layer = model.get_submodule(name)
        assert (rows[name].weights, rows[name].weight_bits) == (layer.weight.numel(), 32)
    everything = {name for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    assert {name for name in everything - rows.keys() if not name.startswith(case.never)} == set()


def test_energy_counts_them(model, case):
    image = torch.randn(2, 3, 64, 64)
    report = measure_energy(model, [image])
    rows, work = {row.name: row for row in report.layers}, work_of(model, image)
    stock = stock_layers(model, case)
    assert {row.name for row in report.outside} == stock
    for name in stock:
        assert rows[name].macs == work[name] / 2 > 0 and rows[name].sops == 0
        assert rows[name].energy == rows[name].dense_energy == pytest.approx(rows[name].macs * 4.6)
    figures = report.as_dict()['total']
    assert figures['outside_units']['layers'] == len(stock)
    assert figures['outside_units']['macs'] == sum(work[name] for name in stock) / 2
    assert 0 < figures['outside_units']['share'] < 1 and 'layers outside units' in report.rule
    assert figures['macs'] == sum(row.macs for row in report.layers if row.driven_by != 'spikes')


@pytest.mark.parametrize('mode', ['integer', 'spike'])
def test_conversion_says_so_and_leaves_them(model, case, mode):
    lines = []
    logger = MMLogger.get_current_instance()
    logger.addFilter(lambda record: lines.append(record.getMessage()) or True)
    image, stock = torch.randn(1, 3, 64, 64), stock_layers(model, case)
    exact = convert(model, mode)
    share = float_share(model, lambda network: network(image))
    said = [line for line in lines if line.startswith(f'{mode} inference: ')]
    assert (
        len(said) == 1
        and f'{len(stock)} of {share.layers} layers' in said[0]
        and next(iter(stock)).split('.')[0] in said[0]
    )
    assert 'of the multiply-accumulates of an image of 224 x 224 px' in said[0]
    assert set(exact.float_share.outside) == set(share.outside) == stock
    assert {name for name, _ in layers_outside_units(exact)} == stock
    assert {row.name for row in audit(exact) if row.driven_by == 'floats'} == stock
    with torch.no_grad():
        assert exact(image) is not None
    with pytest.raises(
        ValueError, match=f'require_spikes=True is not allowed: .*{len(stock)} of {share.layers} layers'
    ):
        convert(model, mode, require_spikes=True)


def test_shares_are_those_of_the_work(model, case):
    image = torch.randn(1, 3, 64, 64)
    work = work_of(model, image)
    share = float_share(model, lambda network: network(image))
    stock = sum(work[name] for name in stock_layers(model, case))
    linear = sum(work.values())  # the products of attention come on top
    assert stock / linear * 0.8 < share.share < stock / linear
    assert share.measure == 'multiply-accumulates' and 0 < share.real_share < 1


def test_folding_keeps_them_in_view(model, case):
    folded = fold_norms(model)
    assert {name for name, _ in layers_outside_units(folded)} == stock_layers(model, case)


def test_a_converted_network_is_audited_but_its_energy_is_that_of_the_trained_one(model, case):
    exact = convert(model, 'integer')
    bits = {row.weight_bits for row in audit(exact) if row.driven_by != 'floats'}
    assert bits == {row.weight_bits for row in audit(model) if row.driven_by != 'floats'}
    assert len(audit(exact)) == len(audit(model))
    with pytest.raises(ValueError, match="model='a converted network' is not allowed: expected the network as trained"):
        measure_energy(exact, [torch.randn(1, 3, 64, 64)])


def test_what_is_made_of_units_passes(caplog):
    from trained_networks import trained

    with caplog.at_level(logging.INFO):
        share = convert(trained(), 'spike', require_spikes=True).float_share
    assert share.outside == () and share.share == 0 and str(share).startswith(f'0 of {share.layers} layers are outside')
