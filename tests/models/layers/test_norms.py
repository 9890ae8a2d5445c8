"""Norms as one function against the modules, one after the other."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qsdt_mm.models.layers.blocks import MembraneShortcut, mlp, sep_conv_chained
from qsdt_mm.models.layers.norms import Residual, can_fuse, fused
from qsdt_mm.models.layers.synapses import BNAndPad, RepConvBN
from qsdt_mm.models.layers.unit import SpikeUnit, UnitFactory
from qsdt_mm.ops import compact_saving

CHANNELS = 3
FACTORY = UnitFactory(None, max_spike_count=4, time_steps=1, weight_bits=4, preset=dict(type='IELIF'))


def random_norm(eps=1e-5, momentum=0.1):
    norm = nn.BatchNorm2d(CHANNELS, eps=eps, momentum=momentum).double()
    for value in (norm.weight, norm.bias, norm.running_mean):
        value.data.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


def membrane(n=2, h=3, w=4):
    return (torch.randn(n, CHANNELS, h, w, dtype=torch.float64) * 2 + 1).requires_grad_()


def outcome(module_or_norms, run, *inputs):
    """Return output, gradients and buffers of a run on copies of norms."""
    norms = copy.deepcopy(module_or_norms)
    inputs = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
    out = run(norms, *inputs)
    wave = torch.arange(out.numel(), dtype=torch.float64).mul(0.7).sin().view(out.shape)
    (out * wave).sum().backward()
    learned = [p for norm in norms for p in norm.parameters()]
    gradients = [x.grad for x in (*inputs, *learned) if x.requires_grad]
    return [out.detach(), *gradients, *(b for norm in norms for b in norm.buffers())]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@given(
    seed=st.integers(0, 2**16),
    number=st.integers(1, 2),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)).filter(lambda s: s[0] * s[1] * s[2] > 1),
    eps=st.sampled_from([1e-5, 1e-3, 0.5]),
    gain=st.booleans(),
    keep=st.booleans(),
    channels_last=st.booleans(),
)
def test_one_function_is_the_modules_in_a_row(seed, number, shape, eps, gain, keep, channels_last):
    torch.manual_seed(seed)
    norms = nn.ModuleList(random_norm(eps * (i + 1), momentum=0.3) for i in range(number))
    x, shortcut = membrane(*shape), membrane(*shape)
    if channels_last:
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    gain = torch.randn(CHANNELS, dtype=torch.float64, requires_grad=True) if gain else None
    keep = torch.tensor([0.0, 1.25, 1.25], dtype=torch.float64)[: shape[0]].view(-1, 1, 1, 1) if keep else None
    inputs = [x, shortcut] + ([] if gain is None else [gain])

    def in_one(norms, x, shortcut, gain=None):
        assert can_fuse(norms, x)
        return fused(list(norms), x, Residual(shortcut, gain, keep))

    def in_a_row(norms, x, shortcut, gain=None):
        for norm in norms:
            x = norm(x)
        return Residual(shortcut, gain, keep).add_to(x)

    assert_same(outcome(norms, in_one, *inputs), outcome(norms, in_a_row, *inputs))


@given(seed=st.integers(0, 2**16), compact=st.booleans(), channels_last=st.booleans())
def test_border_in_one_function(seed, compact, channels_last):
    torch.manual_seed(seed)
    module = BNAndPad(CHANNELS)
    module.norm = random_norm()
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, groups=CHANNELS).double()
    order = torch.channels_last if channels_last else torch.contiguous_format
    x = membrane(2, 4, 3).detach().contiguous(memory_format=order).requires_grad_()

    def run(modules, x):
        if not compact:
            return modules[1](modules[0](x))
        with compact_saving.compact_saving():
            return modules[1](modules[0](x))

    found = outcome(nn.ModuleList([module, conv]), run, x)
    module.norm.register_forward_hook(lambda *args: None)  # the modules run
    assert not can_fuse([module.norm], x)
    assert_same(found, outcome(nn.ModuleList([module, conv]), run, x))


def test_units_with_two_norms_use_it(monkeypatch):
    calls = []
    monkeypatch.setattr(
        'qsdt_mm.models.layers.norms.fused', lambda norms, x, r: calls.append(len(norms)) or fused(norms, x, r)
    )
    unit = SpikeUnit(FACTORY.make_neuron(), RepConvBN(FACTORY, CHANNELS), nn.BatchNorm2d(CHANNELS))
    unit(torch.randn(2, CHANNELS, 4, 4))
    assert calls == [2]
    unit.eval()(torch.randn(2, CHANNELS, 4, 4))
    assert calls == [2]


def refuses(change):
    norm = nn.BatchNorm2d(CHANNELS)
    return not can_fuse([change(norm) or norm], torch.zeros(2, CHANNELS, 2, 2))


@pytest.mark.parametrize(
    'change',
    [
        lambda norm: norm.eval() and None,
        lambda norm: setattr(norm, 'momentum', None),
        lambda norm: norm.register_forward_hook(lambda *args: None) and None,
        lambda norm: norm.register_forward_pre_hook(lambda *args: None) and None,
        lambda norm: norm.register_full_backward_hook(lambda *args: None) and None,
        lambda norm: norm.half() and None,
        lambda norm: nn.SyncBatchNorm(CHANNELS),
        lambda norm: nn.GroupNorm(1, CHANNELS),
        lambda norm: nn.Identity(),
        lambda norm: nn.BatchNorm2d(CHANNELS, affine=False),
        lambda norm: nn.BatchNorm2d(CHANNELS, track_running_stats=False),
        lambda norm: type('Mine', (nn.BatchNorm2d,), {})(CHANNELS),
    ],
)
def test_steps_aside(change):
    assert refuses(change)
    assert not refuses(lambda norm: None)


def test_steps_aside_for_shapes_and_recorders():
    norm = [nn.BatchNorm2d(CHANNELS)]
    assert not can_fuse(norm, torch.zeros(1, CHANNELS, 1, 1))  # which the norm itself refuses, in its own words
    assert not can_fuse(norm, torch.zeros(0, CHANNELS, 2, 2))
    assert not can_fuse(norm, torch.zeros(2, CHANNELS))
    handle = nn.modules.module.register_module_forward_hook(lambda *args: None)
    try:
        assert not can_fuse(norm, torch.zeros(2, CHANNELS, 2, 2))
    finally:
        handle.remove()


@pytest.mark.parametrize('number', [1, 2])
def test_second_derivatives(number):
    torch.manual_seed(0)
    norms = [random_norm() for _ in range(number)]
    gain = torch.randn(CHANNELS, dtype=torch.float64, requires_grad=True)
    keep = torch.tensor([0.0, 2.0], dtype=torch.float64).view(2, 1, 1, 1)

    def run(x, shortcut, gain):
        return fused(norms, x, Residual(shortcut, gain, keep))

    assert torch.autograd.gradgradcheck(run, (membrane(2, 2, 2), membrane(2, 2, 2), gain), atol=1e-4)


def test_shortcut_adds_what_its_parts_add():
    """The block hands all that follows to its last unit; where a part is watched, the parts do it."""
    torch.manual_seed(0)
    for branch in (mlp(FACTORY, 8), sep_conv_chained(FACTORY, 8, 3), nn.Conv2d(8, 8, 1)):
        block = MembraneShortcut(branch, 8, drop_path=0.5, layer_scale=0.7).double()
        watched = copy.deepcopy(block)
        seen = []
        watched.gain.register_forward_hook(lambda module, args, out, seen=seen: seen.append(out))
        x = torch.randn(6, 8, 4, 4, dtype=torch.float64)
        outs = []
        for module in (block, watched):
            torch.manual_seed(1)
            outs.append(module(x))
        assert seen
        torch.testing.assert_close(*outs, rtol=1e-9, atol=1e-10)
        dropped = (outs[0] == x).flatten(1).all(1)
        assert 0 < dropped.sum() < 6


@pytest.mark.parametrize('fuses', [True, False])
def test_residual_keeps_its_type_under_autocast(monkeypatch, fuses):
    """Layer scale is float32, but does not make the stream of membranes float32."""
    if not fuses:
        monkeypatch.setattr('qsdt_mm.models.layers.norms.can_fuse', lambda *args: False)
    block = MembraneShortcut(mlp(FACTORY, 8), 8, layer_scale=0.7)
    with torch.autocast('cpu', torch.bfloat16):
        out = block(torch.randn(2, 8, 4, 4).bfloat16())
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in block.parameters() if p.grad is not None)


@pytest.mark.parametrize('order', [torch.channels_last, torch.contiguous_format], ids=str)
def test_gradients_are_in_the_order_of_maps(order):
    """Whatever the order in which one comes: what the shortcut hands on meets gradients in the order of maps."""
    x, shortcut = (torch.randn(2, 3, 4, 5).contiguous(memory_format=order).requires_grad_() for _ in range(2))
    out = fused([nn.BatchNorm2d(3)], x, Residual(shortcut))
    for grad in (torch.randn(2, 3, 4, 5), torch.randn(2, 4, 5, 3).movedim(3, 1), torch.ones(()).expand(2, 3, 4, 5)):
        of_x, of_shortcut = torch.autograd.grad(out, (x, shortcut), grad, retain_graph=True)
        assert torch.equal(of_shortcut, grad)
        assert of_x.is_contiguous(memory_format=order) and of_shortcut.is_contiguous(memory_format=order)


def test_gradient_of_a_changed_input_is_refused():
    norm, x = nn.BatchNorm2d(CHANNELS), torch.randn(2, CHANNELS, 2, 2).requires_grad_()
    y = x * 1
    out = fused([norm], y)
    y.add_(1)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        out.sum().backward()
