"""Kernels of batch norm on a CUDA device: values and gradients of the plain functions in double precision on a CPU."""

import pytest
import torch

from qsdt_mm.ops import batch_norm, dispatch

pytestmark = pytest.mark.gpu

ORDER = pytest.mark.parametrize('order', [torch.contiguous_format, torch.channels_last], ids=str)
BIG = 16, 64, 56, 56
"""Hundreds of stretches of rows."""


def random_norms(channels, two, gain):
    """Of float32, and the same values of float64; statistics are far from what the batch has."""
    drawn = []
    for i in range(1 + two):
        values = torch.randn(channels), torch.randn(channels), torch.randn(channels), torch.rand(channels) + 0.5
        drawn.append(batch_norm.Norm(*values, 1e-3 * (i + 1), 0.3))
    norms = batch_norm.Norms(drawn[0], drawn[1] if two else None, torch.randn(channels) if gain else None)
    return norms, moved(norms, 'cpu', torch.float64)


def moved(norms, device, dtype=torch.float32):
    def to(norm):
        return norm and norm._replace(
            **{key: getattr(norm, key).to(device, dtype, copy=True) for key in norm._fields[:4]}
        )

    return batch_norm.Norms(
        to(norms.first), to(norms.second), norms.gain if norms.gain is None else norms.gain.to(device, dtype)
    )


def inputs(shape, dtype, order, follows):
    """Map, shortcut, keep, whether padded, gradient."""
    x = (torch.randn(shape) * 2 + 5 * torch.randn(shape[1], 1, 1)).to(dtype).contiguous(memory_format=order)
    shortcut = torch.randn(shape).to(dtype).contiguous(memory_format=order) if 'shortcut' in follows else None
    keep = (torch.arange(shape[0]) % 3 * 0.75).view(-1, 1, 1, 1) if 'keep' in follows else None
    padded = 'border' in follows
    grad = torch.randn(*shape[:2], shape[2] + 2 * padded, shape[3] + 2 * padded).to(dtype)
    return x, shortcut, keep, padded, grad.contiguous(memory_format=order)


def run(room, norms, x, shortcut, keep, padded, grad):
    """Output, gradient of x, gradients of channels, running statistics."""
    out, constants = room('batch_norm')(x, norms, shortcut, keep, padded)
    again = room('batch_norm_values')(x, constants, shortcut, keep, padded)
    of_x, of_channels = room('batch_norm_backward')(grad, x, constants, norms, keep, padded)
    rows = [0, 1, *([2, 3] if norms.second else []), *([4] if norms.gain is not None else [])]
    statistics = [value for norm in norms[:2] if norm for value in (norm.running_mean, norm.running_var)]
    return out, of_x, torch.stack([of_channels[row] for row in rows]), torch.stack(statistics), again


def on(device, arguments):
    return [a.to(device) if isinstance(a, torch.Tensor) else a for a in arguments]


def plain(name):
    return getattr(batch_norm, name)


def kernels(x):
    return lambda name: dispatch.find(name, x)


def check(device, shape, dtype, order, two, gain, follows):
    torch.manual_seed(0)
    norms, wide = random_norms(shape[1], two, gain)
    arguments = inputs(shape, dtype, order, follows)
    there = on(device, arguments)
    before = moved(norms, device)
    found = run(kernels(there[0]), moved(norms, device), *there)
    assert found[0].dtype == found[1].dtype == dtype
    assert found[0].is_contiguous(memory_format=order) and found[1].stride() == there[0].stride()
    assert torch.equal(found[0], found[4])
    for one, other in zip(found, run(kernels(there[0]), before, *there)):
        assert torch.equal(one, other)  # the same bits twice
    expected = run(plain, wide, *(a.double() if isinstance(a, torch.Tensor) else a for a in arguments))
    loose = 0 if dtype is torch.float32 else torch.finfo(dtype).eps
    for one, other in zip(found[:4], expected):
        size = other.abs().amax().item()
        bound = loose if one.dtype == dtype else 0
        torch.testing.assert_close(one.cpu().double(), other, rtol=bound + 1e-5, atol=1e-5 * size)


@ORDER
@pytest.mark.parametrize('shape', [BIG, (3, 5, 7, 9), (8, 100, 15, 13), (2, 3, 224, 224), (4, 512, 7, 7)], ids=str)
@pytest.mark.parametrize('follows', ['keep and shortcut', 'border'])
def test_shapes(device, shape, order, follows):
    check(device, shape, torch.bfloat16, order, follows != 'border', follows != 'border', follows)


@ORDER
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize('follows', ['keep and shortcut', 'border'])
def test_types(device, dtype, order, follows):
    check(device, BIG, dtype, order, follows != 'border', follows != 'border', follows)


@pytest.mark.parametrize(
    'two, gain, follows', [(False, False, ''), (False, True, 'shortcut'), (True, False, ''), (False, False, 'keep')]
)
def test_what_follows(device, two, gain, follows):
    check(device, BIG, torch.bfloat16, torch.channels_last, two, gain, follows)


@pytest.mark.parametrize('follows', ['keep and shortcut', 'border'])
def test_in_a_graph_again_and_again(device, follows):
    """Counters are right in each replay, also of two graphs at a time."""
    torch.manual_seed(0)
    two = follows != 'border'
    drawn = random_norms(64, two, two)[0]
    there = on(device, inputs(BIG, torch.bfloat16, torch.channels_last, follows))
    room = kernels(there[0])
    expected = run(room, moved(drawn, device), *there)
    graphs = [(torch.cuda.CUDAGraph(), moved(drawn, device)) for _ in range(2)]
    found = []
    for graph, norms in graphs:
        with torch.cuda.graph(graph):
            found.append(run(room, norms, *there))
    for _ in range(3):
        for out, of_x, *_ in found:
            out.zero_()
            of_x.zero_()
        torch.cuda.synchronize(device)
        for graph, _ in graphs:
            with torch.cuda.stream(torch.cuda.Stream(device)):
                graph.replay()
        torch.cuda.synchronize(device)
        for out, of_x, *_ in found:
            inner = slice(None) if two else slice(1, -1)  # the border is of running statistics, which move
            assert torch.equal(out[..., inner, inner], expected[0][..., inner, inner])
            assert torch.equal(of_x, expected[1])


def test_two_streams_at_a_time(device):
    torch.manual_seed(0)
    norms = random_norms(64, True, True)[0]
    there = on(device, inputs(BIG, torch.bfloat16, torch.channels_last, 'keep and shortcut'))
    room = kernels(there[0])
    expected = run(room, moved(norms, device), *there)
    theirs = [moved(norms, device) for _ in range(20)]
    torch.cuda.synchronize(device)
    streams = [torch.cuda.Stream(device), torch.cuda.Stream(device)]
    found = []
    for i, norms in enumerate(theirs):
        with torch.cuda.stream(streams[i % 2]):
            found.append(run(room, norms, *there))
    torch.cuda.synchronize(device)
    for each in found:
        assert all(torch.equal(one, other) for one, other in zip(each, expected))
