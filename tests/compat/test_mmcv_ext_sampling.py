"""CARAFE, RoI pooling, masked convolution and PSA without compiled ops, against loops over places, by mmcv's layers."""

import math

import pytest
import torch
from torch import nn

from qsdt_mm import compat
from qsdt_mm.compat import mmcv_ext

if compat.ops_are_compiled():
    pytest.skip('mmcv has compiled ops: the stand-in is not in use', allow_module_level=True)

from mmcv import ops  # noqa: E402

HALVES = [torch.float16, torch.bfloat16]


def assert_same(out, wanted, *inputs):
    assert out.shape == wanted.shape and torch.allclose(out, wanted, atol=1e-12)
    by = torch.randn_like(out)
    found, right = (torch.autograd.grad((t * by).sum(), inputs) for t in (out, wanted))
    for one, other in zip(found, right):
        assert other.abs().max() > 0 and torch.allclose(one, other, atol=1e-12)


def plain_carafe(features, masks, k, groups, scale):
    n, c, h, w = features.shape
    out = []
    for b in range(n):
        for channel in range(c):
            group = channel // (c // groups)
            for y in range(h * scale):
                for x in range(w * scale):
                    total = features.new_zeros(())
                    for i in range(k):
                        for j in range(k):
                            row, column = y // scale + i - k // 2, x // scale + j - k // 2
                            if 0 <= row < h and 0 <= column < w:
                                mask = masks[b, (group * k + i) * k + j, y, x]
                                total = total + features[b, channel, row, column] * mask
                    out.append(total)
    return torch.stack(out).view(n, c, h * scale, w * scale)


@pytest.mark.parametrize(('k', 'groups', 'scale'), [(3, 2, 2), (5, 1, 1), (1, 1, 3)])
def test_carafe(k, groups, scale):
    torch.manual_seed(0)
    features = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    masks = torch.randn(2, groups * k * k, 2 * scale, 3 * scale, dtype=torch.float64, requires_grad=True)
    wanted = plain_carafe(features, masks, k, groups, scale)
    assert_same(ops.carafe(features, masks, k, groups, scale), wanted, features, masks)
    # mmcv itself takes the naive one's gradient on GPUs only: its backward is the one of carafe, tested above.
    assert torch.allclose(ops.carafe_naive(features, masks, k, groups, scale), wanted)


@pytest.mark.parametrize('dtype', HALVES)
def test_carafe_layer_in_half_precision(dtype):
    torch.manual_seed(0)
    layer = ops.CARAFEPack(8, 2)
    x = torch.randn(1, 8, 4, 4)
    wanted = layer(x)
    assert wanted.shape == (1, 8, 8, 8)
    with torch.autocast('cpu', dtype):
        assert torch.allclose(layer(x).float(), wanted, atol=0.05)
    out = layer.to(dtype)(x.to(dtype))
    out.sum().backward()
    assert out.dtype is dtype and torch.allclose(out.float(), wanted, atol=0.05)
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def plain_roi_pool(features, rois, size, scale):
    """By its definition in mmcv: bins from floor to ceiling, the end of a box belongs to it."""
    out = []
    for b, *box in rois.tolist():
        x1, y1, x2, y2 = box[0] * scale, box[1] * scale, (box[2] + 1) * scale, (box[3] + 1) * scale
        for image in features[int(b)]:
            for i in range(size[0]):
                for j in range(size[1]):
                    top, bottom = (
                        math.floor(y1 + i * (y2 - y1) / size[0]),
                        math.ceil(y1 + (i + 1) * (y2 - y1) / size[0]),
                    )
                    left, right = (
                        math.floor(x1 + j * (x2 - x1) / size[1]),
                        math.ceil(x1 + (j + 1) * (x2 - x1) / size[1]),
                    )
                    bin_ = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
                    empty = x2 <= x1 or y2 <= y1 or not bin_.numel()
                    out.append(image.new_zeros(()) if empty else bin_.max())
    return torch.stack(out).view(len(rois), -1, *size)


ROIS = [
    [0, 1, 2, 9, 11],
    [1, -3, -2, 6, 5],
    [0, 4, 4, 4, 4],
    [1, 10, 2, 30, 40],
    [0, 9, 9, 2, 2],
    [1, 3.3, 3, 3.6, 3.4],
]


@pytest.mark.parametrize('scale', [1.0, 0.37])
def test_roi_pool(scale):
    """Boxes inside, across the border, of one place, far outside, inside out and tiny."""
    torch.manual_seed(0)
    features = torch.randn(2, 2, 7, 8, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor(ROIS, dtype=torch.float64)
    out = ops.roi_pool(features, rois, (3, 2), scale)
    assert_same(out, plain_roi_pool(features, rois, (3, 2), scale), features)
    none = ops.RoIPool(2, scale)(features, rois[:0])
    none.sum().backward()
    assert none.shape == (0, 2, 2, 2) and not features.grad.any()


@pytest.mark.parametrize('dtype', HALVES)
def test_roi_pool_types(dtype):
    features = torch.randn(2, 2, 7, 8).to(dtype).requires_grad_()
    out = ops.roi_pool(features, torch.tensor(ROIS).to(dtype), 2, 0.5)
    out.sum().backward()
    assert out.dtype is features.grad.dtype is dtype
    assert torch.equal(out.float(), plain_roi_pool(features.float(), torch.tensor(ROIS).to(dtype), (2, 2), 0.5))


@pytest.mark.parametrize('dtype', [torch.float32, *HALVES])
@pytest.mark.parametrize('kernel', [(3, 3), (1, 3)])
def test_masked_conv(kernel, dtype):
    torch.manual_seed(0)
    padding = tuple(side // 2 for side in kernel)
    layer = ops.MaskedConv2d(3, 4, kernel, padding=padding).to(dtype).eval()
    x, mask = torch.randn(1, 3, 6, 5).to(dtype), torch.rand(1, 6, 5) > 0.6
    out = layer(x, mask.float())
    wanted = nn.functional.conv2d(x.float(), layer.weight.float(), layer.bias.float(), padding=padding) * mask
    assert out.dtype is dtype and torch.allclose(out.float(), wanted, atol=1e-5 if dtype is torch.float32 else 0.05)
    assert not layer(x, torch.zeros(1, 6, 5)).any()


def plain_psa(x, mask_size, distribute):
    n, _, h, w = x.shape
    hm, wm = mask_size
    out = torch.zeros(n, h * w, h, w, dtype=x.dtype)
    for row in range(h):
        for column in range(w):
            for i in range(hm):
                for j in range(wm):
                    y, z = row + i - (hm - 1) // 2, column + j - (wm - 1) // 2
                    if 0 <= y < h and 0 <= z < w:
                        value = x[:, i * wm + j, row, column]
                        if distribute:
                            out[:, row * w + column, y, z] = value
                        else:
                            out[:, y * w + z, row, column] = value
    return out


@pytest.mark.parametrize('mask_size', [(5, 7), (3, 1), (2, 4)])
@pytest.mark.parametrize('kind', ['collect', 'distribute'])
def test_psa_mask(kind, mask_size):
    torch.manual_seed(0)
    x = torch.randn(2, mask_size[0] * mask_size[1], 3, 4, dtype=torch.float64, requires_grad=True)
    out = ops.PSAMask(kind, mask_size)(x)
    assert_same(out, plain_psa(x, mask_size, kind == 'distribute'), x)


@pytest.mark.parametrize('dtype', HALVES)
def test_psa_mask_types(dtype):
    x = torch.randn(1, 9, 3, 3).to(dtype).requires_grad_()
    out = ops.PSAMask('collect', (3, 3))(x)
    out.sum().backward()
    assert out.dtype is x.grad.dtype is dtype and torch.equal(out, plain_psa(x.detach(), (3, 3), False))


def test_the_parts_have_what_they_say():
    assert len(set(mmcv_ext.all_ops())) == len(mmcv_ext.all_ops())
    assert all(getattr(mmcv_ext, op).__name__ == op for op in mmcv_ext.all_ops())
