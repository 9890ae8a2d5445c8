"""Weights quantized together are those that layers quantize by themselves: values, gradients, and who steps aside."""

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch
from tiny_backbones import TINY, backward, tiny
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.utils.checkpoint import checkpoint

from qsdt_mm.models import QuantConv2d, QuantLinear
from qsdt_mm.models.backbones import spike_driven_transformer
from qsdt_mm.models.quantization import bank as banks
from qsdt_mm.models.quantization import lsq
from qsdt_mm.models.quantization.bank import can_share, quantized_together
from qsdt_mm.ops import weight_bank
from qsdt_mm.ops.compact_saving import compact_saving

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.skipif(not banks.can_tell_hooks(), reason='this torch has no bank of weights')


@pytest.fixture
def made(monkeypatch):
    """How many weights each buffer held that was made."""
    found = []

    def quantize_many(weights, *args):
        found.append(len(weights))
        return weight_bank.quantize_many(weights, *args)

    monkeypatch.setattr(banks, 'quantize_many', quantize_many)
    return found


def lively(model):
    """Steps of both signs, none at LSQ's first value, one below the floor."""
    source = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, lsq.LSQ):
            scales = torch.rand(module.step.shape, generator=source).to(module.step) * 1.5 - 0.5
            module.step.data.mul_(scales)
            module.step.data[0] = 1e-8
    return model


def one_by_one(model, image, **autocast):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spike_driven_transformer, 'quantized_together', lambda stage: nullcontext())
        return run(model, image, **autocast)


def run(model, image, dtype=None):
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        outputs = model(image)
    backward([out.double() for out in outputs])
    return outputs


def assert_same(one, other):
    for (name, p), (_, q) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        assert p.grad is None or torch.equal(p.grad, q.grad), name


SETTINGS = {
    'fp32': {},
    'bf16': dict(dtype=torch.bfloat16),
    'double': dict(double=True),
    'recomputed': dict(with_cp=True),
    'recomputed bf16': dict(with_cp=True, dtype=torch.bfloat16),
    '2 bits': dict(weight_bits=2),
    '8 bits bf16': dict(weight_bits=8, dtype=torch.bfloat16),
    '32 bits bf16': dict(weight_bits=32, dtype=torch.bfloat16),
    'frozen': dict(frozen_stages=1),
    'over time': dict(time_steps=2),
}


CASES = [('qsd', setting) for setting in SETTINGS] + [
    (family, setting)
    for family in ('espike', 'espike-large')
    for setting in ('fp32', '32 bits bf16', 'recomputed bf16')
]


@pytest.mark.parametrize(('family', 'setting'), CASES)
def test_values_and_gradients_to_the_last_bit(family, setting, made):
    options = dict(SETTINGS[setting])
    dtype, double = options.pop('dtype', None), options.pop('double', False)
    arch = dict(TINY[family], depths=(1, 0, 1, 1, 0)[: len(TINY[family]['widths'])])
    model = lively(tiny(family, arch=arch, weight_bits=options.pop('weight_bits', 4), out_indices=(4,), **options))
    model = (model.double() if double else model).train()
    other, image = copy.deepcopy(model), IMAGE.double() if double else IMAGE
    for _ in range(2):  # gradients of two steps add up
        outputs, expected = run(model, image, dtype), one_by_one(other, image, dtype=dtype)
        assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))
    assert_same(model, other)
    trained = len(model.stages) - options.get('frozen_stages', -1) - 1
    assert len(made) == 2 * (len(model.stages) + trained)  # forward, and again for the backward pass


class Twice(nn.Module):
    """Two layers, quantized together."""

    def __init__(self, first=None, second=None):
        super().__init__()
        self.first = first or QuantConv2d(3, 4, 3)
        self.second = second or QuantConv2d(4, 2, 1)

    def inside(self, x):
        return self.second(self.first(x).relu())

    def forward(self, x):
        with compact_saving(), quantized_together(self):
            return self.inside(x)


X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def assert_as_ever(model, other=None):
    """Outputs and gradients are those of a copy that quantizes layer by layer."""
    other = other or copy.deepcopy(model)
    out, expected = model(X), other.inside(X)
    assert torch.equal(out, expected)
    out.square().sum().backward(), expected.square().sum().backward()
    assert_same(model, other)


def other_quantizer(layer):
    layer.quantizer = type(
        'Halves', (lsq.LSQ,), {'forward': lambda self, w: (w * 2).round() / 2 + 0 * self.step.sum()}
    )(layer.out_channels, 4)


def shrink(layer, args):
    layer.weight.data.mul_(0.9)


ALONE = {
    'another quantizer': other_quantizer,
    'a hook on the quantizer': lambda layer: layer.quantizer.register_forward_hook(lambda m, args, out: out * 2),
    'a hook before the layer': lambda layer: layer.register_forward_pre_hook(shrink),
    'pruning': lambda layer: prune.random_unstructured(layer, 'weight', 0.5),
    'a parametrization': lambda layer: parametrize.register_parametrization(layer, 'weight', nn.Tanh()),
    'steps of another type': lambda layer: layer.quantizer.double(),
}


@pytest.mark.parametrize('change', ALONE)
def test_who_quantizes_alone(change, made):
    model = lively(Twice())
    other = copy.deepcopy(model)
    for each in (model, other):
        torch.manual_seed(0)
        ALONE[change](each.first)
    assert_as_ever(model, other)
    assert made == [1, 1]  # the other one alone, forward and again


def test_subclasses_may_share_or_not(made):
    class Doubled(QuantConv2d):
        @property
        def quantized_weight(self):
            return super().quantized_weight * 2

    class Named(QuantConv2d):
        pass

    assert not can_share(Doubled(3, 4, 3)) and can_share(Named(3, 4, 3)) and can_share(QuantLinear(3, 4))
    assert_as_ever(lively(Twice(Doubled(3, 4, 3), Named(4, 2, 1))))
    assert made == [1, 1]


def test_nothing_is_kept_from_pass_to_pass(made):
    """Writes of every kind show in the next pass, those past autograd's counts as well."""
    model = lively(Twice())
    for change in (
        lambda w: w.data.mul_(0.5),
        lambda w: w.detach().add_(0.1),
        lambda w: setattr(w, 'data', w.data * 2),
    ):
        change(model.first.weight)
        change(model.second.quantizer.step)
        assert torch.equal(model(X), model.inside(X))
    assert len(made) == 3


def test_a_change_within_the_pass_shows():
    """What a hook in the middle writes to the weights of a layer whose turn is to come."""
    model = lively(Twice())
    other = copy.deepcopy(model)
    with torch.no_grad():
        for each in (model, other):
            for parameter in (each.second.weight, each.second.quantizer.step):
                each.first.register_forward_hook(lambda m, args, out, p=parameter: out + 0 * p.mul_(1.5).sum())
        assert torch.equal(model(X), other.inside(X))


@pytest.mark.parametrize('tensor', ['weight', 'quantizer.step'])
def test_a_change_before_the_backward_pass_is_refused(tensor):
    model = Twice()
    loss = model(X).sum()
    with torch.no_grad():
        model.get_parameter(f'second.{tensor}').add_(1)
    with pytest.raises(RuntimeError, match='modified .*in-?place|in place'):
        loss.backward()


@pytest.mark.parametrize('reentrant', [False, True])
def test_checkpoints_of_others(reentrant):
    """They compute again when nothing is provided."""
    model = lively(Twice())
    other, inside = copy.deepcopy(model), model.inside
    x = X.clone().requires_grad_()
    with compact_saving(), quantized_together(model):
        out = checkpoint(inside, x, use_reentrant=reentrant)
    out.square().sum().backward()
    other.inside(X).square().sum().backward()
    assert_same(model, other)


def test_what_is_frozen_gets_no_gradient():
    model = lively(Twice())
    model.first.requires_grad_(False)
    model.second.quantizer.step.requires_grad_(False)
    assert_as_ever(model)
    with compact_saving(), quantized_together(model):
        assert not model.first.compute_weight.requires_grad and model.second.compute_weight.requires_grad
    model.requires_grad_(False)
    assert not model(X).requires_grad


def test_a_weight_is_frozen_and_its_step_is_not():
    model = lively(Twice())
    model.first.quantizer.step.requires_grad_(False)
    model.second.weight.requires_grad_(False)
    assert_as_ever(model)
    assert model.first.weight.grad is not None and model.second.quantizer.step.grad is not None


def test_without_gradients(made):
    model = lively(Twice())
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(model(X), model.inside(X))
    with torch.inference_mode():
        born = Twice()
        assert torch.equal(born(X), born.inside(X))
    assert made == [2, 2, 2]


def test_layers_that_are_not_called_or_called_twice():
    model = lively(Twice(QuantConv2d(3, 3, 1), QuantConv2d(3, 3, 1)))
    model.inside = lambda x: model.first(model.first(x).relu())
    other = copy.deepcopy(model)
    out, expected = model(X), other.first(other.first(X).relu())
    assert torch.equal(out, expected)
    out.sum().backward(), expected.sum().backward()
    assert model.second.weight.grad is None and other.second.weight.grad is None
    torch.testing.assert_close(model.first.weight.grad, other.first.weight.grad)


def test_gradients_of_gradients():
    def penalised(model, forward):
        (grad,) = torch.autograd.grad(forward(X.double()).square().sum(), model.first.weight, create_graph=True)
        grad.square().sum().backward()
        return model

    model = lively(Twice()).double()
    other = copy.deepcopy(model)
    assert_same(penalised(model, model), penalised(other, other.inside))


def test_backward_twice():
    model = lively(Twice())
    other = copy.deepcopy(model)
    for forward in (model, other.inside):
        loss = forward(X).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
    assert_same(model, other)


def test_modules_hold_nothing():
    model = Twice()
    with compact_saving(), quantized_together(model):
        inner = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for twin in inner:
        assert twin.state_dict().keys() == model.state_dict().keys()
    assert lsq.provided_weights() is None
    with pytest.raises(ZeroDivisionError), quantized_together(model):
        raise ZeroDivisionError
    assert lsq.provided_weights() is None


def test_biases_are_cast_with_the_weights(monkeypatch):
    """None by itself, where layers compute in half precision; with gradients of the same bits, or none if frozen."""
    find, biases = lsq.QuantWeightMixin._find_provided, []

    def spied(layer, name):
        found = find(layer, name)
        if name == 'bias' and found is not None:
            biases.append(found)
        return found

    monkeypatch.setattr(lsq.QuantWeightMixin, '_find_provided', spied)
    model = Twice(second=nn.Sequential(nn.Flatten(2), QuantLinear(16, 3, weight_bits=32)))
    model.second[1].bias.requires_grad_(False)
    other = copy.deepcopy(model)
    with torch.autocast('cpu', torch.bfloat16):
        out, expected = model(X), other.inside(X)
    assert torch.equal(out, expected)
    out.float().square().sum().backward(), expected.float().square().sum().backward()
    assert_same(model, other)
    assert [(bias.dtype, bias.requires_grad) for bias in biases] == [(torch.bfloat16, True), (torch.bfloat16, False)]


def test_a_bias_of_another_kind_is_left_to_its_layer():
    model = lively(Twice())
    parametrize.register_parametrization(model.first, 'bias', nn.Tanh())
    model.second.bias = None
    other = copy.deepcopy(model)
    with torch.autocast('cpu', torch.bfloat16):
        out, expected = model(X), other.inside(X)
    assert torch.equal(out, expected)
    out.float().square().sum().backward(), expected.float().square().sum().backward()
    assert_same(model, other)
