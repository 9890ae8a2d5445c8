"""Counters of norms have the values of stock norms, however they are stepped."""

import copy

import pytest
import torch
from tiny_backbones import backward, families, norms, tiny
from torch import nn

from qsdt_mm.models.layers import norm_counters
from qsdt_mm.models.layers.norm_counters import batch_norm, count_batch, counted_at_once

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def stock_step(model, image):
    """A step in which every norm is called, one after the other, and counts by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norm_counters, 'may_wait', lambda norm: False)
        backward(model(image))


@pytest.mark.parametrize('with_cp', [False, True])
@families
def test_state_is_that_of_stock_norms(family, with_cp):
    model = tiny(family, with_cp=with_cp).train().double()
    stock = copy.deepcopy(model)
    for _ in range(2):
        backward(model(IMAGE.double()))
        stock_step(stock, IMAGE.double())
    assert {norm.num_batches_tracked.item() for norm in norms(model)} == {2}
    for (name, one), (other_name, other) in zip(model.state_dict().items(), stock.state_dict().items(), strict=True):
        assert name == other_name
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10, msg=name)
    for (name, one), (_, other) in zip(model.named_parameters(), stock.named_parameters()):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-6, msg=name)


def test_frozen_stages_and_evaluation_count_nothing():
    model = tiny(frozen_stages=1).train()
    model(IMAGE)
    counts = [{norm.num_batches_tracked.item() for norm in norms(stage)} for stage in model.stages]
    assert counts == [{0}, {0}, {1}, {1}, {1}]
    model.eval()(IMAGE)
    assert counts == [{norm.num_batches_tracked.item() for norm in norms(stage)} for stage in model.stages]


def variants():
    """Norms that count by themselves, and ones that others may count."""
    yield 'plain', nn.BatchNorm2d(3), True
    yield 'in evaluation', nn.BatchNorm2d(3).eval(), False
    yield 'cumulative', nn.BatchNorm2d(3, momentum=None), False
    yield 'without statistics', nn.BatchNorm2d(3, track_running_stats=False), False
    yield 'of a kind of its own', type('OwnNorm', (nn.BatchNorm2d,), {})(3), False
    yield 'another norm', nn.GroupNorm(1, 3), False
    for register in ('forward_hook', 'forward_pre_hook', 'full_backward_hook', 'full_backward_pre_hook'):
        norm = nn.BatchNorm2d(3)
        getattr(norm, f'register_{register}')(lambda *args: None)
        yield register, norm, False


@pytest.mark.parametrize(('norm', 'waits'), [pytest.param(n, w, id=name) for name, n, w in variants()])
def test_who_waits(norm, waits):
    stock, x = copy.deepcopy(norm), torch.randn(2, 3, 4, 4)
    for _ in range(2):
        with counted_at_once():
            before = copy.deepcopy(norm.state_dict())
            found = batch_norm(norm, x), batch_norm(norm, x)
            waited = 'num_batches_tracked' in before and norm.training
            waited = waited and torch.equal(norm.num_batches_tracked, before['num_batches_tracked'])
            assert waited == waits
        for out in found:
            assert torch.equal(out, stock(x))
        for key, value in stock.state_dict().items():
            assert torch.equal(norm.state_dict()[key], value), key


def test_a_hook_on_every_module_sees_norms():
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    try:
        with counted_at_once():
            batch_norm(nn.BatchNorm2d(3), torch.ones(1, 3, 2, 2))
    finally:
        handle.remove()
    assert seen == [nn.BatchNorm2d]


def test_counters_are_stepped_when_something_fails():
    norm = nn.BatchNorm2d(3)
    with pytest.raises(ZeroDivisionError), counted_at_once():
        batch_norm(norm, torch.ones(1, 3, 2, 2))
        raise ZeroDivisionError
    assert norm.num_batches_tracked == 1
    count_batch(norm)
    assert norm.num_batches_tracked == 2
    with pytest.raises(ValueError, match='expected 4D input'), counted_at_once():
        batch_norm(norm, torch.ones(1, 3))
    assert norm.num_batches_tracked == 2
