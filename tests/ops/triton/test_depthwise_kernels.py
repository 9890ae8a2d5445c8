"""The kernel of depthwise weights' gradients, run by Triton's interpreter, against torch's own gradient."""

import pytest
import torch
from torch import nn

from qsdt_mm.models import QuantConv2d
from qsdt_mm.ops import depthwise
from qsdt_mm.ops.depthwise import Window

# Kernel, stride, padding, dilation; as networks have them, and as they might.
WINDOWS = {
    '3x3 behind a border': Window((3, 3)),
    '3x3': Window((3, 3), padding=(1, 1)),
    '5x5': Window((5, 5), stride=(2, 2), padding=(2, 2)),
    '7x7': Window((7, 7), padding=(3, 3)),
    'strided, dilated': Window((3, 3), stride=(2, 1), padding=(2, 3), dilation=(2, 3)),
    'uneven': Window((1, 4), stride=(1, 3), padding=(0, 2)),
    'wider than the image': Window((2, 7), padding=(1, 5), dilation=(1, 2)),
}
ORDERS = [torch.contiguous_format, torch.channels_last]


def of_torch(grad, x, window):
    """In float64, by convolution's own gradient."""
    weight = torch.zeros(x.shape[1], 1, *window.kernel_size, dtype=torch.float64, requires_grad=True)
    out = nn.functional.conv2d(x.double(), weight, None, *window[1:], x.shape[1])
    assert out.shape[2:] == window.size_of(*x.shape[2:])
    return torch.autograd.grad(out, weight, grad.double())[0]


def maps(window, shape, dtype=torch.float32, order=torch.contiguous_format):
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype).contiguous(memory_format=order)
    grad = torch.randn(*shape[:2], *window.size_of(*shape[2:])).to(dtype)
    return grad, x


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('name', WINDOWS)
def test_the_gradient_is_torchs(interpreted, name, order):
    window = WINDOWS[name]
    grad, x = maps(window, (1, 3, 5, 6), order=order)
    found = interpreted.depthwise.depthwise_weight_grad(grad, x, window)
    assert found.is_contiguous() and found.dtype == x.dtype
    torch.testing.assert_close(found.double(), of_torch(grad, x, window), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(depthwise.depthwise_weight_grad(grad, x, window), found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(interpreted, dtype, order):
    """A sum of 96 ones and many 1/4: beside that, bfloat16 loses every 1/4."""
    window = Window((1, 1))
    x = torch.full((1, 2, 10, 16), 0.25).to(dtype).contiguous(memory_format=order)
    x[:, :, :6] = 1
    grad = torch.ones_like(x)
    grad[:, 1] = -1
    expected = torch.tensor([112.0, -112.0]).to(dtype).view(2, 1, 1, 1)
    for room in (interpreted.depthwise, depthwise):
        assert torch.equal(room.depthwise_weight_grad(grad, x, window), expected)


@pytest.mark.parametrize('order', ORDERS)
def test_the_last_program_adds_up_what_all_have_left(interpreted, monkeypatch, order):
    """In the same order whoever is last, and again from counters that the launch before has left at zero."""
    monkeypatch.setattr(interpreted.depthwise, 'SHORTEST_STRETCH', 1)
    window = Window((2, 2), padding=(1, 0))
    grad, x = maps(window, (2, 5 if order == torch.channels_last else 2, 5, 6), order=order)
    first = interpreted.depthwise.depthwise_weight_grad(grad, x, window)
    counters = interpreted.arrivals._of_streams.values()
    assert counters and not any(c.any() for c in counters)
    torch.testing.assert_close(first.double(), of_torch(grad, x, window), rtol=1e-5, atol=1e-5)
    assert torch.equal(interpreted.depthwise.depthwise_weight_grad(grad, x, window), first)


def test_gradients_in_another_order_in_memory(interpreted):
    window = Window((3, 3), padding=(1, 1))
    grad, x = maps(window, (2, 3, 4, 4))
    first = interpreted.depthwise.depthwise_weight_grad(grad, x, window)
    last = grad.contiguous(memory_format=torch.channels_last)
    assert torch.equal(interpreted.depthwise.depthwise_weight_grad(last, x, window), first)
    one = torch.ones(()).expand_as(grad)
    found = interpreted.depthwise.depthwise_weight_grad(one, x.mT, window)
    torch.testing.assert_close(found.double(), of_torch(one, x.mT, window), rtol=1e-5, atol=1e-5)


def test_what_is_not_finite_stays_where_it_is(interpreted):
    """A gradient that has overflowed meets no zero of the padding, which would make it not-a-number elsewhere."""
    window = Window((3, 3), padding=(1, 1))
    grad, x = maps(window, (1, 2, 3, 3))
    grad[0, 0, 0, 0] = 0
    expected = of_torch(grad, x.abs(), window)
    expected[0, 0, 1:, 1:] = grad[0, 0, 0, 0] = float('inf')
    found = interpreted.depthwise.depthwise_weight_grad(grad, x.abs(), window)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_the_self_test_finds_sums_that_miss_a_stretch(interpreted, monkeypatch):
    kernel = interpreted.depthwise.depthwise_weight_grad
    monkeypatch.setattr(
        interpreted.depthwise, 'depthwise_weight_grad', lambda grad, x, window: kernel(grad[1:], x[1:], window)
    )
    assert not interpreted.self_test.weight_gradients_agree(torch.device('cpu'), torch.float32)


def test_a_layer_takes_the_kernel(dispatched):
    torch.manual_seed(0)
    layer = QuantConv2d(3, 3, 3, padding=1, groups=3, bias=False, weight_bits=4)
    image = torch.randn(2, 3, 4, 5)
    layer(image).square().sum().backward()
    assert dispatched.count('depthwise_weight_grad') == 2  # asked whether it serves, and run
    found = layer.weight.grad.clone()
    layer.zero_grad()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('qsdt_mm.ops.dispatch.find', lambda *args: None)
        layer(image).square().sum().backward()
    torch.testing.assert_close(found, layer.weight.grad, rtol=1e-5, atol=1e-5)
