"""Operator calls of a training step, counted by hand and by the counter."""

import copy
from collections import Counter
from importlib import import_module

import pytest
import torch
from tiny_backbones import families, tiny
from torch import nn

from qsdt_mm.analysis.calls import CallCounter, count_calls, count_launches, kind_of
from qsdt_mm.analysis.reference import plain_path
from qsdt_mm.models import IELIF
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.models.quantization import QuantConv2d, QuantWeightMixin
from qsdt_mm.ops import dispatch


def test_what_computes_counts_with_the_bytes_that_it_moves():
    x = torch.ones(4, 6)
    with CallCounter() as counter:
        x.view(24)[:3].t(), torch.empty(3), x.detach(), x.expand(2, 4, 6)
        assert not counter.sums
        y = x.half()  # 24 floats read, 24 halves written
        y.copy_(x)  # what is overwritten is not read
        y.add_(1)
        torch.mul(y, 2, out=torch.empty_like(y))
        torch.ones(()).expand(24).sum()  # of one number in memory
    sizes = {row.operator: row.bytes for row in counter.counts().rows}
    assert sizes == dict(_to_copy=24 * 6, copy_=24 * 6, add_=24 * 4, mul=24 * 4, ones=4, sum=8)


def test_places_forward_and_backward():
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2, bias=False)).train()
    x = torch.randn(4, 3, requires_grad=True)
    counts = count_calls(model, lambda: [model(x)], dtype=None, gpu=False)
    rows = Counter()
    for row in counts.rows:
        rows[row.phase, row.module, row.operator] += row.calls
    assert rows['forward', 'Linear', 'addmm'] == rows['forward', 'Linear', 'mm'] == 1
    assert rows['backward', 'Linear', 'mm'] == 4
    assert rows['forward', 'ReLU', 'relu'] == rows['backward', 'ReLU', 'threshold_backward'] == 1
    assert {row.function for row in counts.rows if row.operator == 'threshold_backward'} == {'ReluBackward0'}
    assert (
        counts.calls()
        == counts.calls('forward') + counts.calls('backward')
        == sum(n for _, n, _ in counts.by('module'))
    )
    assert counts.as_dict()['by_phase']['backward']['calls'] == counts.calls('backward')


def test_a_kernel_is_one_call_forward_and_one_backward():
    model = nn.Sequential(QuantConv2d(3, 4, 3), IELIF(0.3), QuantConv2d(4, 2, 1)).train()
    image = torch.randn(2, 3, 8, 8)
    counts = count_calls(model, lambda: [model(image)])
    kernels = {(row.phase, row.operator): row for row in counts.rows if row.operator.startswith('triton.')}
    assert all(row.calls == 1 for key, row in kernels.items() if 'fire' in key[1])
    assert {operator for _, operator in kernels} >= {'triton.fire', 'triton.fire_backward'}
    (fired,) = (row for row in counts.rows if row.operator == 'triton.fire')
    assert (fired.module, fired.function) == ('IELIF', 'models.neurons.functional:_SpikeCount.forward')
    assert fired.bytes == 2 * 4 * 36 * (2 + 2 + 1)  # the membrane, the spikes, a byte of each
    assert not any(operator in ('floor_', 'round_', 'clamp_', 'eq') for operator, _, _ in counts.by('operator'))
    with plain_path():
        assert count_calls(model, lambda: [model(image)], gpu=False).calls() > counts.calls()


def test_a_convolution_reads_what_the_gradient_asked_for_needs():
    layer, image = nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False), torch.ones(1, 2, 4, 4, requires_grad=True)
    sizes = []
    for inputs in ([image], [layer.weight], [image, layer.weight]):
        out = layer(image).sum()
        with CallCounter() as counter:
            torch.autograd.grad(out, inputs)
        sizes.append([row.bytes for row in counter.counts().rows if row.operator == 'convolution_backward'])
    grad, feature, weight = 4 * 1, 4 * 32, 4 * 18  # the gradient of a sum is one number in memory
    assert sizes == [[grad + weight + feature], [grad + feature + weight], [grad + 2 * (feature + weight)]]


def test_depthwise_weights_have_a_launch_of_their_own():
    layer = nn.Sequential(QuantConv2d(3, 4, 3), QuantConv2d(4, 4, 3, groups=4, bias=False, weight_bits=32)).train()
    image = torch.randn(2, 3, 9, 8)
    layer(image).square().mean().backward()
    expected = [p.grad.clone() for p in layer.parameters()]
    counts = count_calls(layer, lambda: [layer(image)], dtype=None)
    (row,) = (row for row in counts.rows if row.operator == 'triton.depthwise_weight_grad')
    assert (row.phase, row.module, row.calls) == ('backward', 'QuantConv2d depthwise 3x3', 1)
    assert row.bytes == 4 * (2 * 4 * 7 * 6 + 2 * 4 * 5 * 4 + 4 * 9)  # its input, the gradient of its output, its own
    for parameter, grad in zip(layer.parameters(), expected):
        torch.testing.assert_close(parameter.grad, grad)


def test_all_time_steps_are_one_call_each_way():
    model = nn.Sequential(QuantConv2d(3, 4, 3), IELIF(0.3, time_steps=3)).train()
    image = torch.randn(6, 3, 8, 8)
    expected = torch.autograd.grad(model(image).square().mean(), list(model.parameters()))
    found = {row.operator: row.calls for row in count_calls(model, lambda: [model(image)], dtype=None).rows}
    assert found['triton.integrate_and_fire'] == found['triton.integrate_and_fire_backward'] == 1
    for parameter, grad in zip(model.parameters(), expected):
        torch.testing.assert_close(parameter.grad, grad)


@families
def test_counting_changes_nothing_and_is_exact(family):
    """Every neuron and every convolution is there, twice the same; gradients are those of the step itself."""
    model, image = tiny(family, out_indices=(4,)).train(), torch.randn(2, 3, 32, 32)
    twin = copy.deepcopy(model)
    for _ in range(2):
        twin.zero_grad()
        twin(image)[0].square().mean().backward()
    count_calls(model, lambda: model(image), dtype=None, gpu=False)
    for (name, one), (_, other) in zip(model.named_parameters(), twin.named_parameters()):
        assert torch.equal(one.grad, other.grad), name
    counts = count_calls(model, lambda: model(image), dtype=None)
    calls = Counter()
    for row in counts.rows:
        calls[row.phase, row.operator] += row.calls
    convolutions = sum(isinstance(m, QuantWeightMixin) for m in model.modules())
    fired = sum(isinstance(m, SpikingNeuron) for m in model.modules())
    assert calls['forward', 'convolution'] == calls['backward', 'convolution_backward'] == convolutions
    assert calls['forward', 'triton.fire_packed'] == calls['backward', 'triton.fire_packed_backward'] == fired
    assert count_calls(model, lambda: model(image), dtype=None).calls() == counts.calls()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert nn.Module.__call__ is nn.Module._wrapped_call_impl


def test_blocks_computed_again_count_in_the_backward_pass():
    image = torch.randn(2, 3, 32, 32)
    kept, again = (count_calls(m.train(), lambda m=m: m(image)) for m in (tiny(), tiny(with_cp=True)))
    assert again.calls('backward') > kept.calls('backward')
    modules = {row.module for row in again.rows if row.phase == 'backward' and row.operator == 'convolution'}
    assert modules == {'QuantConv2d 1x1', 'QuantConv2d 3x3', 'QuantConv2d depthwise 3x3', 'QuantConv2d depthwise 7x7'}


def test_every_kernel_has_a_twin():
    assert set(dispatch.PLAIN_MODULES) | {'integrate_and_fire'} == set(dispatch.KERNEL_MODULES)
    for name, module in dispatch.PLAIN_MODULES.items():
        assert callable(getattr(import_module(f'qsdt_mm.ops.{module}'), name))
    assert set(dispatch.LAUNCHES) <= set(dispatch.KERNEL_MODULES)


def test_kinds_of_convolutions():
    assert kind_of(nn.Conv2d(4, 4, 3, groups=4)) == 'Conv2d depthwise 3x3'
    assert kind_of(nn.Conv2d(4, 4, (1, 3))) == 'Conv2d 1x3' and kind_of(nn.ReLU()) == 'ReLU'


@pytest.mark.gpu
def test_a_gpu_launches_about_as_many():
    device = torch.device('cuda')
    model, image = tiny().train(), torch.randn(2, 3, 64, 64)
    counted = count_calls(model, lambda: model(image)).calls()
    model, image = model.to(device), image.to(device)

    def step():
        model.zero_grad()
        with torch.autocast('cuda', torch.bfloat16):
            outputs = model(image)
        sum(out.float().square().mean() for out in outputs).backward()

    assert 0.7 * counted < count_launches(step, device) < 1.5 * counted
