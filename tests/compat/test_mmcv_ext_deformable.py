"""Deformable convolutions and attention without compiled ops, against sums of bilinear samples, in mmcv layers."""

import pytest
import torch
from torch import nn

from qsdt_mm import compat

if compat.ops_are_compiled():
    pytest.skip('mmcv has compiled ops: the stand-in is not in use', allow_module_level=True)

from mmcv import ops  # noqa: E402
from mmcv.cnn import build_conv_layer  # noqa: E402
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction  # noqa: E402

HALVES = [torch.float16, torch.bfloat16]


def at(image, y, x):
    """Bilinear sample of ``(C, H, W)``; there is nothing outside."""
    total = image.new_zeros(len(image))
    top, left = int(y.floor()), int(x.floor())
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total = total + image[:, row, column] * (1 - (y - row).abs()) * (1 - (x - column).abs())
    return total


def plain(x, offset, weight, mask, bias, stride, padding, dilation, groups, deform_groups):
    """Place by place."""
    n, channels = x.shape[:2]
    out_channels, each, kh, kw = weight.shape
    height, width = offset.shape[2:]
    out = []
    for image, shifts, masks in zip(x, offset, mask):
        for oy in range(height):
            for ox in range(width):
                patch = []  # (kh * kw) of (C,)
                for k in range(kh * kw):
                    samples = []
                    for d, part in enumerate(image.chunk(deform_groups)):
                        dy, dx = shifts[2 * (d * kh * kw + k) : 2 * (d * kh * kw + k) + 2, oy, ox]
                        y = oy * stride[0] - padding[0] + k // kw * dilation[0] + dy
                        x_ = ox * stride[1] - padding[1] + k % kw * dilation[1] + dx
                        samples.append(at(part, y, x_) * masks[d * kh * kw + k, oy, ox])
                    patch.append(torch.cat(samples))
                patch = torch.stack(patch, 1).view(groups, each, kh * kw)
                kernel = weight.view(groups, out_channels // groups, each, kh * kw)
                out.append((kernel * patch[:, None]).sum((2, 3)).flatten() + bias)
    return torch.stack(out).view(n, height, width, out_channels).permute(0, 3, 1, 2)


def case(groups=1, deform_groups=1, dtype=torch.float64):
    """Tensors of 3 x 2 kernels with stride, padding and dilation of their own for each axis; some lie outside."""
    torch.manual_seed(0)
    geometry = dict(stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=groups, deform_groups=deform_groups)
    size = (2, 4)
    tensors = (
        torch.randn(2, 4, 4, 3),
        2.5 * torch.randn(2, deform_groups * 12, *((4 + 2 - 3) // 2 + 1, 3 + 4 - 3 + 1)),
        torch.randn(size[0] * groups, 4 // groups, 3, 2),
        torch.rand(2, deform_groups * 6, 2, 5),
        torch.randn(size[0] * groups),
    )
    return geometry, [t.to(dtype).requires_grad_() for t in tensors]


def assert_same(out, wanted, inputs, tolerance=1e-10):
    assert out.shape == wanted.shape and torch.allclose(out, wanted, atol=tolerance)
    by = torch.randn_like(out)
    for one, other in zip(
        torch.autograd.grad((out * by).sum(), inputs), torch.autograd.grad((wanted * by).sum(), inputs)
    ):
        assert other.abs().max() > 0 and torch.allclose(one, other, atol=tolerance)


@pytest.mark.parametrize(('groups', 'deform_groups'), [(1, 1), (2, 1), (1, 2), (4, 2)])
def test_deform_conv(groups, deform_groups):
    geometry, (x, offset, weight, *_) = case(groups, deform_groups)
    order = [geometry[key] for key in ('stride', 'padding', 'dilation', 'groups', 'deform_groups')]
    out = ops.deform_conv2d(x, offset, weight, *order)
    wanted = plain(x, offset, weight, torch.ones(2, deform_groups * 6, 2, 5), 0, **geometry)
    assert_same(out, wanted, (x, offset, weight))


@pytest.mark.parametrize(('groups', 'deform_groups'), [(1, 1), (2, 2)])
@pytest.mark.parametrize('biased', [True, False])
def test_modulated_deform_conv(groups, deform_groups, biased):
    geometry, (x, offset, weight, mask, bias) = case(groups, deform_groups)
    order = [geometry[key] for key in ('stride', 'padding', 'dilation', 'groups', 'deform_groups')]
    out = ops.modulated_deform_conv2d(x, offset, mask, weight, bias if biased else None, *order)
    wanted = plain(x, offset, weight, mask, bias if biased else 0, **geometry)
    assert_same(out, wanted, (x, offset, mask, weight, *([bias] if biased else [])))


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_offsets_that_are_no_numbers_read_nothing(value):
    """As in the compiled kernel, whose comparisons with the border fail; torchvision's would end the process."""
    geometry, (x, offset, weight, mask, bias) = case()
    broken, far = offset.detach().clone(), offset.detach().clone()
    broken[:, 2], far[:, 2] = value, 1e4
    by = torch.randn(2, 2, 2, 5, dtype=x.dtype)
    found = []
    for shifts in (broken.requires_grad_(), far.requires_grad_()):
        inputs = (x, shifts, weight, mask, bias)
        order = [geometry[key] for key in ('stride', 'padding', 'dilation')]
        out = ops.modulated_deform_conv2d(x, shifts, mask, weight, bias, *order)
        found.append((out, *torch.autograd.grad((out * by).sum(), inputs)))
    assert all(torch.equal(one, other) and one.isfinite().all() for one, other in zip(*found))


@pytest.mark.parametrize('kind', ['DCN', 'DCNv2'])
def test_layers_that_shift_nothing_are_convolutions(kind):
    """As they start: DCNv2 with each mask at one half. Images smaller than the kernel, too."""
    torch.manual_seed(0)
    layer = build_conv_layer(dict(type=kind, deform_groups=2), 4, 6, 3, stride=2, padding=1, bias=False)
    x = torch.randn(3, 4, 7, 5)
    wanted = nn.functional.conv2d(x, layer.weight, None, 2, 1) * (1 if kind == 'DCN' else 0.5)
    out = layer(x)
    assert torch.allclose(out, wanted, atol=1e-5)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    if kind == 'DCN':
        small = ops.DeformConv2d(4, 6, 3, padding=1)
        assert torch.allclose(
            small(torch.ones(1, 4, 2, 2), torch.zeros(1, 18, 2, 2)),
            nn.functional.conv2d(torch.ones(1, 4, 2, 2), small.weight, padding=1),
            atol=1e-5,
        )


@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('kind', ['DCN', 'DCNv2'])
def test_half_precision(kind, dtype):
    """Inputs, and autocast, in which only the offsets are half."""
    torch.manual_seed(0)
    layer = build_conv_layer(dict(type=kind), 4, 6, 3, padding=1, bias=False)
    x = torch.randn(1, 4, 5, 5)
    wanted = layer(x)
    with torch.autocast('cpu', dtype):
        out = layer(x)
    assert out.dtype is dtype and torch.allclose(out.float(), wanted, atol=0.05)
    out.float().sum().backward()
    assert layer.weight.grad.dtype is torch.float32 and layer.weight.grad.isfinite().all()
    out = layer.to(dtype)(x.to(dtype).requires_grad_())
    assert out.dtype is dtype and torch.allclose(out.float(), wanted, atol=0.05)
    out.sum().backward()


def attention(dtype=torch.float64):
    torch.manual_seed(0)
    shapes = torch.tensor([[3, 2], [2, 1]])
    value = torch.randn(2, 8, 2, 3, dtype=dtype, requires_grad=True)
    places = (torch.rand(2, 4, 2, 2, 3, 2, dtype=dtype) * 1.4 - 0.2).requires_grad_()  # some are outside
    weights = torch.rand(2, 4, 2, 2, 3, dtype=dtype, requires_grad=True)
    return shapes, value, places, weights


def plain_attention(shapes, value, places, weights):
    out = []
    for n in range(len(value)):
        levels = value[n].split([h * w for h, w in shapes.tolist()])
        for q in range(places.shape[1]):
            for head in range(value.shape[2]):
                total = 0
                for level, (h, w) in enumerate(shapes.tolist()):
                    image = levels[level][:, head].T.reshape(-1, h, w)
                    for p in range(places.shape[4]):
                        x, y = places[n, q, head, level, p]
                        total = total + weights[n, q, head, level, p] * at(image, y * h - 0.5, x * w - 0.5)
                out.append(total)
    return torch.stack(out).view(len(value), places.shape[1], -1)


def test_attention():
    """What a GPU asks for, on the CPU."""
    shapes, *tensors = attention()
    value, places, weights = tensors
    out = MultiScaleDeformableAttnFunction.apply(value, shapes, torch.tensor([0, 6]), places, weights, 64)
    assert_same(out, plain_attention(shapes, *tensors), tensors)


@pytest.mark.parametrize('dtype', HALVES)
def test_attention_in_half_precision(dtype):
    shapes, value, places, weights = attention(torch.float32)
    value, start = value.detach().to(dtype).requires_grad_(), torch.tensor([0, 6])
    with torch.autocast('cpu', dtype):
        out = MultiScaleDeformableAttnFunction.apply(value, shapes, start, places, weights, 64)
    wanted = plain_attention(shapes, value.float(), places.to(dtype).float(), weights.to(dtype).float())
    assert out.dtype is dtype and torch.allclose(out.float(), wanted, atol=0.05)
    out.float().sum().backward()
    assert value.grad.dtype is dtype and places.grad.dtype is torch.float32


def test_offsets_of_a_larger_map_are_read_from_their_beginning():
    """As the compiled kernel does, which mmdet's DyHead counts on."""
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 3, 4), torch.randn(4, 4, 3, 3)
    offset, mask = torch.randn(2, 18, 6, 8), torch.rand(2, 9, 6, 8)
    first = [values.reshape(2, -1)[:, : n * 12].reshape(2, n, 3, 4) for values, n in ((offset, 18), (mask, 9))]
    found = ops.modulated_deform_conv2d(x, offset, mask, weight, None, 1, 1, 1, 1, 1)
    assert torch.equal(found, ops.modulated_deform_conv2d(x, *first, weight, None, 1, 1, 1, 1, 1))
