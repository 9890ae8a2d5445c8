"""Depthwise convolutions with a gradient of ours: as torch's, in all that training does; and who steps aside."""

import copy

import pytest
import torch
from tiny_backbones import backward, families, tiny
from torch import nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from qsdt_mm.models import QuantConv2d
from qsdt_mm.ops import compact_saving, depthwise, dispatch


@pytest.fixture
def runs(monkeypatch):
    """The plain twin stands in for the kernel, for tensors of a CPU, too; how often it ran."""
    found = []

    def twin(grad, x, window):
        found.append(x.dtype)
        return depthwise.depthwise_weight_grad(grad, x, window)

    def find(name, *tensors):
        return twin if name == 'depthwise_weight_grad' and all(t.dtype == tensors[0].dtype for t in tensors) else None

    monkeypatch.setattr(dispatch, 'find', find)
    return found


def gradients(model, image):
    model = copy.deepcopy(model)
    image = image.clone().requires_grad_()
    with compact_saving.compact_saving():
        out = model(image)
    out.square().sum().backward()
    return out.detach(), image.grad, *(p.grad for p in model.parameters())


@pytest.mark.parametrize('bits', [4, 32])
@pytest.mark.parametrize(
    'settings',
    [
        dict(kernel_size=3),
        dict(kernel_size=5, stride=2, padding=2, bias=False),
        dict(kernel_size=(3, 7), padding=(2, 3), dilation=(2, 1)),
    ],
    ids=str,
)
def test_gradients_are_torchs(runs, bits, settings):
    torch.manual_seed(0)
    layer = QuantConv2d(4, 4, groups=4, weight_bits=bits, **settings).double()
    image = torch.randn(2, 4, 9, 8).double()
    found = gradients(layer, image)
    assert runs == [torch.float64]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, 'find', lambda *args: None)
        expected = gradients(layer, image)
    assert len(runs) == 1
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@families
@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
def test_networks(runs, monkeypatch, family, dtype):
    """With the bank of weights, whose part the weight is, and with compact saving."""
    monkeypatch.setattr('qsdt_mm.ops.layout.is_faster_in_float32', lambda *args: False)
    model, image = tiny(family).train(), torch.randn(2, 3, 32, 32)

    def run(model):
        with torch.autocast('cpu', dtype, enabled=dtype is not None):
            outputs = model(image)
        backward([out.double() for out in outputs])
        return [*(out.detach() for out in outputs), *(p.grad for p in model.parameters())]

    twin = copy.deepcopy(model)
    found = run(model)
    count = sum(isinstance(m, nn.Conv2d) and m.groups > 1 for m in model.modules())
    assert runs == ([torch.float32] * count if dtype is None else [])
    monkeypatch.setattr(dispatch, 'find', lambda *args: None)
    tolerance = 1e-4 if dtype is None else 0.05
    for one, other in zip(found, run(twin)):
        assert (one - other).norm() <= tolerance * other.norm() + 1e-6


def conv(**settings):
    return QuantConv2d(4, settings.pop('out', 4), 3, **dict(dict(padding=1, groups=4), **settings))


IMAGE = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))


class Own(QuantConv2d):
    """Convolves in a way of its own."""

    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight, bias) * 2


@pytest.mark.parametrize(
    'layer',
    [
        conv(groups=2),
        conv(out=8),
        conv(padding_mode='reflect'),
        conv(padding='same'),
        QuantConv2d(4, 4, (1, 9), padding=(0, 4), groups=4),
        Own(4, 4, 3, groups=4),
        conv(weight_bits=32).requires_grad_(False),
    ],
    ids=['groups', 'more channels out', 'reflection', 'same', 'wide', 'own', 'frozen'],
)
def test_layers_that_are_left_to_torch(runs, layer):
    layer(IMAGE.clone().requires_grad_()).sum().backward()
    assert not runs


def test_an_image_without_a_batch_and_types_that_do_not_fit(runs):
    conv()(IMAGE[0]).sum().backward()
    assert not runs
    with pytest.raises(RuntimeError):  # as torch has it
        conv()(IMAGE.double())


def test_only_what_is_wanted(runs):
    layer = conv(weight_bits=32)
    layer(IMAGE).sum().backward()  # none of the image
    assert runs == [torch.float32] and layer.bias.grad.tolist() == [60.0] * 4
    layer.weight.requires_grad_(False)
    layer(IMAGE).sum().backward()
    with torch.no_grad():
        layer.requires_grad_()(IMAGE)
    assert len(runs) == 1


def test_gradients_of_gradients(runs):
    layer, image = conv(weight_bits=32).double(), IMAGE.double().requires_grad_()
    grad = torch.randn_like(image).requires_grad_()
    weight = layer.weight

    def first(image, weight, grad):
        return torch.autograd.grad(layer(image), (image, weight), grad, create_graph=True)

    found = first(image, weight, grad)
    second = torch.autograd.grad(sum(f.square().sum() for f in found), (image, weight, grad))
    assert not runs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, 'find', lambda *args: None)
        found = first(image, weight, grad)
        expected = torch.autograd.grad(sum(f.square().sum() for f in found), (image, weight, grad))
    for one, other in zip(second, expected):
        torch.testing.assert_close(one, other)


def test_transforms_counters_and_recorders(runs, monkeypatch):
    layer = conv(weight_bits=32)
    values = dict(layer.named_parameters())
    losses = torch.func.vmap(lambda image: torch.func.functional_call(layer, values, (image,)).sum())
    assert losses(IMAGE[:, None]).shape == (2,)
    torch.func.grad(lambda values: torch.func.functional_call(layer, values, (IMAGE,)).sum())(values)
    with forward_ad.dual_level():
        assert forward_ad.unpack_dual(layer(forward_ad.make_dual(IMAGE, IMAGE))).tangent is not None
    with FlopCounterMode(display=False) as counter:
        layer(IMAGE).sum().backward()
    assert counter.get_flop_counts()['Global'].keys() >= {torch.ops.aten.convolution_backward}
    traced = torch.jit.trace(layer, IMAGE)
    assert '_DepthwiseConv2d' not in str(traced.graph)
    monkeypatch.setattr('qsdt_mm.models.quantization.depthwise.is_compiling', lambda: True)
    layer(IMAGE).sum().backward()
    assert not runs


def test_a_change_in_place_is_an_error(runs):
    """As of everything that autograd saves."""
    layer, image = conv(weight_bits=32), IMAGE * 1
    out = layer(image)
    image.add_(1)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        out.sum().backward()
