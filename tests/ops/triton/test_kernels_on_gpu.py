"""Kernels on a CUDA device give the values of a CPU."""

import itertools

import pytest
import torch

from qsdt_mm.models.neurons import IELIF, SpikingNeuron, functional
from qsdt_mm.models.quantization import lsq, quant_range
from qsdt_mm.ops import depthwise, dispatch, spiking
from qsdt_mm.ops import dispatch as kernels

pytestmark = pytest.mark.gpu

DTYPE = pytest.mark.parametrize('dtype', dispatch.DTYPES, ids=str)


def same(found, expected):
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0, equal_nan=True)


def membranes(dtype, threshold, *shape):
    """Half of them on boundaries of the count."""
    free = torch.randn(shape) * 3 * threshold
    on_boundary = torch.randint(-2, 12, shape) * threshold / 2
    found = torch.where(torch.rand(shape) < 0.5, free, on_boundary).to(dtype)
    found.view(-1)[:3] = torch.tensor([float('inf'), -float('inf'), float('nan')])
    return found


@DTYPE
@pytest.mark.parametrize('threshold', [1.0, 0.25, 0.3, 0.7])
@pytest.mark.parametrize('channels_last', [False, True])
def test_neuron(device, dtype, threshold, channels_last):
    membrane = membranes(dtype, threshold, 8, 64, 33, 31)
    if channels_last:
        membrane = membrane.to(memory_format=torch.channels_last)
    grad = torch.randn_like(membrane)
    for bit, rounding in itertools.product((1, spiking.INSIDE), spiking.ROUNDINGS):
        constants = threshold, 4, 0.3, bit, rounding
        spikes, kept = kernels.find('fire', membrane.to(device))(membrane.to(device), *constants)
        expected, expected_kept = spiking.fire(membrane, *constants)
        same(spikes, expected)
        same(kept, expected_kept)
        assert spikes.stride() == kept.stride() == membrane.stride()
        back = kernels.find('fire_backward', grad.to(device))
        constants = threshold, 0.3, bit
        same(back(grad.to(device), kept, *constants), spiking.fire_backward(grad, expected_kept, *constants))


@DTYPE
@pytest.mark.parametrize('channels_last', [False, True])
def test_half_bytes(device, dtype, channels_last):
    membrane = membranes(dtype, 0.3, 5, 63, 33, 31)
    if channels_last:
        membrane = membrane.to(memory_format=torch.channels_last)
    grad, on_gpu = torch.randn_like(membrane), membrane.to(device)
    for rounding in spiking.ROUNDINGS:
        constants = 0.3, 4, 0.25, rounding
        spikes, packed = kernels.find('fire_packed', on_gpu)(on_gpu, *constants)
        expected, expected_packed = spiking.fire_packed(membrane, *constants)
        same(spikes, expected)
        same(packed, expected_packed)
        restore = kernels.find('restore_spikes', spikes)
        same(
            restore(torch.empty_like(spikes), packed, 0.25),
            spiking.restore_spikes(torch.empty_like(expected), expected_packed, 0.25),
        )
        back = kernels.find('fire_packed_backward', grad.to(device))
        same(
            back(grad.to(device), packed, torch.empty_like(spikes), 0.3, 0.25),
            spiking.fire_packed_backward(grad, expected_packed, torch.empty_like(expected), 0.3, 0.25),
        )


@DTYPE
@pytest.mark.parametrize('steps', [2, 4, 16])
def test_time_steps(device, dtype, steps):
    neuron = IELIF(0.3, 0.3, 4, steps, 0.7)
    inputs = membranes(dtype, 0.3, steps * 2, 32, 17).requires_grad_()
    on_gpu = inputs.detach().to(device).requires_grad_()
    grad = torch.randn(inputs.shape).to(dtype)
    expected = SpikingNeuron.forward(neuron, inputs)
    found = functional.integrate_and_fire(on_gpu, steps, 0.3, 4, 0.7, 0.3)
    same(found.detach(), expected.detach())
    (wanted,) = torch.autograd.grad(expected, inputs, grad)
    same(torch.autograd.grad(found, on_gpu, grad.to(device))[0], wanted)


@DTYPE
@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize('shape', [(512, 512, 1, 1), (192, 96, 3, 3), (256, 1, 7, 7), (100, 2000)])
def test_quantizer(device, dtype, bits, shape):
    low, high = quant_range(bits)
    step = (torch.rand(shape[0]) * 0.2 + 0.05).to(dtype)
    weight = (torch.randn(shape) * high * step.float().view(-1, *[1] * (len(shape) - 1))).to(dtype)
    grad = torch.randn(shape).to(dtype)
    arguments = weight.to(device), step.to(device)
    same(kernels.find('quantize', *arguments)(*arguments, low, high), lsq.quantize(weight, step, low, high))
    back = kernels.find('quantize_backward', grad.to(device), *arguments)
    of_weight, of_step = back(grad.to(device), *arguments, low, high)
    wanted, of_step_wanted = lsq.quantize_backward(grad, weight, step, low, high)
    same(of_weight, wanted)
    tolerance = 1e-6 if dtype is torch.float32 else 2 * torch.finfo(dtype).eps
    # Relative to what is added, of which a part cancels.
    size = lsq.quantize_backward(grad.double(), weight.double(), step.double(), low, high)[1].abs().max()
    assert (of_step.cpu().double() - of_step_wanted.double()).abs().max() <= 10 * tolerance * size


def feature_maps(device, dtype, shape, window, order):
    """Input and gradient of the output, whose products sum up exactly, in any order, to what float32 holds."""
    maps = (torch.randint(-2, 3, size) for size in (shape, (*shape[:2], *window.size_of(*shape[2:]))))
    return [x.to(device, dtype).contiguous(memory_format=order) for x in maps]


@DTYPE
@pytest.mark.parametrize('order', [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    'window',
    [
        depthwise.Window((3, 3)),
        depthwise.Window((5, 5), (2, 2), (2, 2)),
        depthwise.Window((7, 7), padding=(3, 3)),
        depthwise.Window((3, 3), padding=(2, 2), dilation=(2, 2)),
    ],
    ids=str,
)
def test_depthwise_weights(device, dtype, order, window):
    """Many programs for each sum, again and again, on two streams at a time: whoever is last, the sum is whole."""
    x, grad = feature_maps(device, dtype, (32, 100, 57, 41), window, order)
    expected = depthwise.depthwise_weight_grad(grad.cpu(), x.cpu(), window)
    kernel = kernels.find('depthwise_weight_grad', x, grad)
    torch.cuda.synchronize(device)
    found = []
    for stream in [torch.cuda.Stream(device), torch.cuda.Stream(device)] * 10:
        with torch.cuda.stream(stream):
            found.append(kernel(grad, x, window))
    torch.cuda.synchronize(device)
    for each in found:
        same(each, expected)


def test_depthwise_weights_in_a_graph(device):
    window = depthwise.Window((7, 7), padding=(3, 3))
    x, grad = feature_maps(device, torch.bfloat16, (32, 100, 57, 41), window, torch.channels_last)
    kernel = kernels.find('depthwise_weight_grad', x, grad)
    expected = kernel(grad, x, window).cpu()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = kernel(grad, x, window)
    for _ in range(3):
        out.zero_()
        graph.replay()
        same(out, expected)
