"""Sums of real values that do not depend on their order, and so not on the device."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from trained_networks import assert_same_bits, membranes, trained

from qsdt_mm.inference import convert, exact, int8, splitting
from qsdt_mm.inference.splitting import EXACT, KEPT, SplitAveragePool, digits_of_a_part, parts, split_sums

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)
SEEDS = st.integers(0, 9999)
REACHES = st.sampled_from([1, 7, 147, 5000, 49 * 127, 2**20])
DTYPES = st.sampled_from([torch.float32, torch.float64])


def spread(seed, *shape, dtype=torch.float32):
    """Values whose magnitudes differ by up to 2^40 within a sample and between samples."""
    source = torch.Generator().manual_seed(seed)
    exponent = torch.randint(-20, 21, shape, generator=source) + torch.randint(
        -20, 21, shape[:1], generator=source
    ).view(-1, *[1] * (len(shape) - 1))
    return (torch.randn(shape, generator=source, dtype=torch.float64) * 2.0**exponent).to(dtype)


@PROPERTY
@given(seed=SEEDS, reach=REACHES, dtype=DTYPES)
def test_parts(seed, reach, dtype):
    """Few digits each, on a grid of the sample; together they are the values, but for less than one in 2^26."""
    digits = digits_of_a_part(dtype, reach)
    if digits < 4:
        return
    values = spread(seed, 3, 40, dtype=dtype)
    largest = values.abs().amax(1, keepdim=True).double()
    bound = 2.0 ** (torch.floor(torch.log2(largest)) + 1)
    rest = values.clone()
    for i, part in enumerate(parts(values, digits)):
        step = bound * 2.0 ** -(digits + i * (digits + 1))
        assert torch.equal(part.double() / step, (part.double() / step).round())
        assert (part.double() / step).abs().max() * reach <= EXACT[dtype]
        rest = rest - part
    assert (rest.abs().double() <= largest * 2.0 ** -KEPT[dtype]).all()


@PROPERTY
@given(seed=SEEDS, dtype=DTYPES, bits=st.sampled_from([2, 4, 8]), fan_in=st.sampled_from([3, 49, 147, 3000]))
def test_the_order_of_a_sum_does_not_matter(seed, dtype, bits, fan_in):
    """Nor do the type of the sum or the rest of the batch; and it is as near as a sum in the own type, or nearer."""
    weight = torch.randint(
        -(2 ** (bits - 1)), 2 ** (bits - 1), (5, fan_in), generator=torch.Generator().manual_seed(seed)
    )
    values, reach = spread(seed, 3, fan_in, dtype=dtype), int(weight.abs().sum(1).max())
    order = torch.randperm(fan_in, generator=torch.Generator().manual_seed(seed))

    def sums(x, order=slice(None), accumulator_dtype=None):
        kind = x.dtype if accumulator_dtype is None else accumulator_dtype
        return split_sums(lambda part: part[:, order].to(kind) @ weight[:, order].to(kind).mT, x, reach)

    found = sums(values)
    for other in (sums(values, order), sums(values, order, torch.float64), torch.cat([sums(v[None]) for v in values])):
        assert torch.equal(found, other)
    exact_sum = values.double() @ weight.double().mT
    scale = values.double().abs() @ weight.double().abs().mT
    grid = values.double().abs().amax(1, keepdim=True) * reach * 2.0 ** -KEPT[dtype]
    assert ((found - exact_sum).abs() <= 4 * torch.finfo(dtype).eps * scale + grid).all()


def test_the_order_of_a_plain_sum_does_matter():
    """What the test above stands on."""
    values = spread(0, 3, 147)
    assert not torch.equal(values.sum(1), values.flip(1).sum(1))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('magnitude', [0.0, 1e-20, 1e-4, 1.0, 1e4])
def test_types_and_magnitudes(dtype, magnitude):
    values = (torch.randn(2, 4, 5, 3) * magnitude).to(dtype)
    found = split_sums(lambda x: x * 3, values, 3)
    assert torch.allclose(found.double(), values.double() * 3, rtol=1e-6, atol=1e-24)
    pooled = SplitAveragePool()(values)
    assert pooled.dtype is dtype and pooled.shape == (2, 4, 1, 1)
    assert torch.allclose(pooled.double(), values.double().mean((2, 3), keepdim=True), rtol=1e-2, atol=1e-2 * magnitude)


def test_values_that_are_not_finite_stay_so():
    values = torch.tensor([[1.0, float('inf')], [float('nan'), 1.0], [1.0, 2.0]])
    found = split_sums(lambda x: x.sum(1, keepdim=True), values, 2)
    assert found.isfinite().flatten().tolist() == [False, False, True]


@pytest.fixture
def another_device(monkeypatch):
    """Sums as a GPU takes them: in float64, without 8-bit convolutions, in another order."""

    def switch():
        for module in (splitting, exact):
            monkeypatch.setattr(module, 'on_device', lambda accumulator_dtype, values: torch.float64)
        monkeypatch.setattr(int8, 'is_available', lambda: False)
        linear = exact.FoldedLayer.linear
        monkeypatch.setattr(
            exact.FoldedLayer,
            'linear',
            lambda layer, x: linear(layer, x) if x.dim() < 4 else mirrored(linear, layer, x),
        )

    def mirrored(linear, layer, values):
        """The same sums from right to left; borders and strides keep some of them as they are."""
        args = layer.conv_args
        if set(args['stride']) != {1} or layer.transposed:
            return linear(layer, values)
        turned, layer.weight.data = layer.weight.data, layer.weight.data.flip(-1)
        found = linear(layer, values.flip(-1)).flip(-1)
        layer.weight.data = turned
        return found

    return switch


NETWORKS = [
    dict(family='qsd'),
    dict(family='espike-large', weight_bits=8, max_spike_count=8, time_steps=2),
    dict(family='espike', weight_bits=2, max_spike_count=1, time_steps=3),
]


@pytest.mark.parametrize('options', NETWORKS, ids=str)
@pytest.mark.parametrize('mode', ['integer', 'spike'])
def test_networks_have_the_same_bits_wherever_they_run(options, mode, another_device):
    model, image = convert(trained(**options), mode), torch.randn(2, 3, 33, 47)
    here = membranes(model, image)
    another_device()
    assert_same_bits(here, membranes(model, image))


def test_pools_are_exact_in_a_converted_network():
    pool = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(2))
    model = convert(nn.Sequential(trained(), pool), 'integer')
    assert [type(m).__name__ for m in model[1]] == ['SplitAveragePool', 'SplitAveragePool', 'AdaptiveAvgPool2d']


@pytest.mark.gpu
@pytest.mark.parametrize('options', NETWORKS, ids=str)
@pytest.mark.parametrize('mode', ['integer', 'spike'])
def test_a_gpu_has_the_bits_of_a_cpu(options, mode, monkeypatch):
    """With TF32 as torch allows it by default, and where the user allows it everywhere."""
    if not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    monkeypatch.setattr(torch.backends.cuda.matmul, 'allow_tf32', True)
    network = nn.Sequential(trained(**{**options, 'out_indices': (4,)}), Last(), nn.AdaptiveAvgPool2d(1))
    model, image = convert(network, mode), torch.randn(4, 3, 97, 131)
    here = membranes(model, image)
    there = membranes(model.cuda(), image.cuda())
    assert_same_bits(here, {name: value.cpu() for name, value in there.items()})


class Last(nn.Module):
    def forward(self, features):
        return features[-1]
