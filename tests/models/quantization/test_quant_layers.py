"""Low-bit convolution and linear layers."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn

from qsdt_mm.errors import InputError
from qsdt_mm.models import QuantConv2d, QuantLinear
from qsdt_mm.models.quantization import QuantConvTranspose2d, steps_follow_weights
from qsdt_mm.models.quantization.lsq import MIN_STEP
from qsdt_mm.ops import layout

LOW_BITS = [2, 3, 4, 8]


def conv(weight_bits=4, **kwargs):
    return QuantConv2d(4, 6, 3, padding=1, weight_bits=weight_bits, **kwargs)


def first_step(layer):
    _, high = -(2 ** (layer.weight_bits - 1)), 2 ** (layer.weight_bits - 1) - 1
    return torch.full_like(layer.quantizer.step, 2 * layer.weight.abs().mean().item() / high**0.5)


@pytest.mark.parametrize('bits', LOW_BITS)
def test_conv_computes_with_the_quantized_weight(bits):
    layer, image = conv(bits, stride=2, groups=2), torch.randn(2, 4, 9, 7)
    assert torch.equal(layer(image), F.conv2d(image, layer.quantized_weight, layer.bias, 2, 1, 1, 2))
    assert layer.quantized_weight[0].unique().numel() <= 2**bits
    assert not torch.equal(layer.quantized_weight, layer.weight)


@pytest.mark.parametrize('bits', LOW_BITS)
def test_linear_computes_with_the_quantized_weight(bits):
    layer, rows = QuantLinear(5, 7, weight_bits=bits), torch.randn(2, 3, 5)
    assert torch.equal(layer(rows), F.linear(rows, layer.quantized_weight, layer.bias))


def test_more_bits_are_nearer():
    layers = [conv(bits) for bits in LOW_BITS]
    for layer in layers:
        layer.load_state_dict(dict(weight=layers[0].weight, bias=layers[0].bias), strict=False)
    errors = [(layer.quantized_weight - layer.weight).square().mean().item() for layer in layers]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 100


@pytest.mark.parametrize(
    ('ours', 'plain', 'args', 'shape'),
    [
        (QuantConv2d, nn.Conv2d, (4, 6, 3, 2, 1), (2, 4, 9, 9)),
        (QuantLinear, nn.Linear, (4, 6), (2, 4)),
    ],
)
def test_32_bits_is_the_plain_layer(ours, plain, args, shape):
    torch.manual_seed(3)
    layer = ours(*args, weight_bits=32)
    torch.manual_seed(3)
    reference = plain(*args)
    x = torch.randn(shape)
    assert list(layer.state_dict()) == list(reference.state_dict())
    assert torch.equal(layer(x), reference(x))
    layer(x).square().sum().backward()
    reference(x).square().sum().backward()
    assert torch.equal(layer.weight.grad, reference.weight.grad)


@pytest.mark.parametrize('make', [lambda bits: conv(bits), lambda bits: QuantLinear(4, 4, weight_bits=bits)])
@pytest.mark.parametrize('bits', [5, 0, 16, None, '4'])
def test_other_widths_are_refused(make, bits):
    with pytest.raises(ValueError, match=r'^weight_bits=.* expected one of 2, 3, 4, 8, 32'):
        make(bits)


def test_the_default_is_four_bits():
    assert QuantConv2d(1, 1, 1).weight_bits == QuantLinear(1, 1).weight_bits == 4


@pytest.mark.parametrize('bits', LOW_BITS)
def test_right_from_construction(bits):
    layer = conv(bits)
    torch.testing.assert_close(layer.quantizer.step.data, first_step(layer))


def test_built_by_name():
    layer = MODELS.build(dict(type='QuantConv2d', in_channels=2, out_channels=3, kernel_size=1, weight_bits=2))
    assert isinstance(layer, QuantConv2d) and layer.quantizer.bits == 2
    assert isinstance(MODELS.build(dict(type='QuantLinear', in_features=2, out_features=3)), QuantLinear)


def test_loading_full_precision_weights_derives_the_steps_anew():
    source, layer = nn.Conv2d(4, 6, 3, padding=1), conv()
    with torch.no_grad():
        source.weight.mul_(100)
    layer.load_state_dict(source.state_dict(), strict=False)
    torch.testing.assert_close(layer.quantizer.step.data, first_step(layer))
    assert layer.quantizer.step.min() > 1


def test_loading_within_a_larger_model_derives_the_steps_anew():
    source = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    model = nn.Sequential(QuantConv2d(4, 6, 3), nn.ReLU(), QuantConv2d(6, 2, 1))
    keys = model.load_state_dict(source.state_dict(), strict=False)
    assert sorted(keys.missing_keys) == ['0.quantizer.step', '2.quantizer.step']
    for layer in (model[0], model[2]):
        torch.testing.assert_close(layer.quantizer.step.data, first_step(layer))


def test_loading_learned_steps_keeps_them():
    source, layer = conv(), conv()
    with torch.no_grad():
        source.quantizer.step.uniform_(0.1, 0.2)
    layer.load_state_dict(source.state_dict())
    assert torch.equal(layer.quantizer.step, source.quantizer.step)
    assert torch.equal(layer.quantized_weight, source.quantized_weight)


def test_loading_only_steps_keeps_weights_and_steps():
    layer = conv()
    steps, weight = torch.rand(6) + 0.1, layer.weight.detach().clone()
    layer.load_state_dict({'quantizer.step': steps}, strict=False)
    assert torch.equal(layer.quantizer.step, steps) and torch.equal(layer.weight, weight)


def test_steps_follow_weights_that_were_initialised():
    model = nn.ModuleList([conv(), conv(), conv(), conv(32)])
    drawn, untouched, by_hand, plain = model
    before = untouched.quantizer.step.detach().clone()
    with torch.no_grad(), steps_follow_weights(model):
        drawn.weight.normal_(std=7)
        by_hand.weight.normal_(std=7)
        by_hand.quantizer.step.fill_(0.125)
        plain.weight.normal_(std=7)
    torch.testing.assert_close(drawn.quantizer.step.data, first_step(drawn))
    assert torch.equal(untouched.quantizer.step, before)
    assert (by_hand.quantizer.step == 0.125).all()


def test_reset_step_derives_it_by_hand():
    layer = conv()
    with torch.no_grad():
        layer.weight.mul_(9)
    layer.reset_step()
    torch.testing.assert_close(layer.quantizer.step.data, first_step(layer))


@pytest.mark.parametrize('bits', [4, 32])
def test_copies_and_pickles(bits):
    layer, image = conv(bits), torch.randn(1, 4, 5, 5)
    twins = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    expected = layer(image)
    for twin in twins:
        assert torch.equal(twin(image), expected)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1)
    for twin in twins:
        assert torch.equal(twin(image), expected)  # nothing is shared


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype):
    layer = conv().to(dtype)
    out = layer.quantized_weight
    assert out.dtype is dtype and out.isfinite().all()
    out.float().square().sum().backward()
    for parameter in layer.quantizer.parameters():
        assert parameter.grad.dtype is dtype and parameter.grad.isfinite().all()


@pytest.mark.parametrize('bits', [4, 32])
@pytest.mark.parametrize(
    'make, shape',
    [
        (lambda bits: QuantConv2d(4, 6, 3, weight_bits=bits), (2, 5, 6, 6)),
        (lambda bits: QuantConvTranspose2d(4, 6, 3, weight_bits=bits), (2, 5, 6, 6)),
        (lambda bits: QuantLinear(4, 6, weight_bits=bits), (2, 5)),
    ],
    ids=['conv', 'transposed', 'linear'],
)
def test_an_input_of_another_width_is_refused_in_one_line(make, shape, bits):
    with pytest.raises(InputError, match='in_channels=4 does not fit: a Quant.* built for 4 channels gets 5; correct'):
        make(bits)(torch.randn(shape))


def test_autocast_keeps_gradients_in_float32():
    layer = conv()
    with torch.autocast('cpu', torch.bfloat16):
        out = layer(torch.randn(2, 4, 5, 5))
        assert out.dtype is torch.bfloat16
        out.float().square().mean().backward()
    for parameter in layer.parameters():
        assert parameter.grad.dtype is torch.float32 and parameter.grad.abs().sum() > 0


def test_all_zero_weights_are_fine_and_can_learn():
    """A layer that starts at zero, as some recipes want it, puts out zero, and leaves it when trained."""
    layer = QuantLinear(3, 1, bias=False)
    with torch.no_grad(), steps_follow_weights(layer):
        layer.weight.zero_()
    torch.testing.assert_close(layer.quantizer.step.data, torch.full((1,), MIN_STEP))
    rows = torch.randn(64, 3)
    target = rows @ torch.tensor([[1.0], [-0.5], [0.25]])
    assert (layer(rows) == 0).all()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (layer(rows) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * target.square().mean()


@pytest.mark.parametrize('kernel_size', [3, 7])
def test_large_depthwise_kernels_train_in_float32_on_cpus(kernel_size):
    """Half precision is what goes in and comes out, and what is kept; sums and gradients are those of float32."""
    torch.manual_seed(0)
    conv = QuantConv2d(8, 8, kernel_size, padding=kernel_size // 2, groups=8, weight_bits=8)
    x = torch.randint(0, 5, (2, 8, 6, 6)).mul(0.25).bfloat16()
    grad, results = torch.randn(2, 8, 6, 6).bfloat16(), []
    for slow in (False, True):
        source = x.clone().requires_grad_()
        with pytest.MonkeyPatch.context() as patch:
            if slow:
                patch.setattr(layout, 'is_faster_in_float32', lambda *args: False)
            conv.zero_grad()
            with torch.autocast('cpu', torch.bfloat16):
                out = conv(source)
                out.backward(grad)
        assert out.dtype == source.grad.dtype == torch.bfloat16 and conv.weight.grad.dtype == torch.float32
        assert ('ToCopy' in type(out.grad_fn).__name__) == (kernel_size > 3 and not slow)
        results.append((out.detach(), source.grad, conv.weight.grad.clone()))
    for found, expected in zip(*results):
        torch.testing.assert_close(found.float(), expected.float(), rtol=0.02, atol=0.05)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(conv(x), results[1][0])
