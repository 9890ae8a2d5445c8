"""RoIs that are deformable, rotated or pool maxima, without compiled ops, against loops over samples, by mmcv's ops."""

import math
import sys

import pytest
import torch

from qsdt_mm import compat

if compat.ops_are_compiled():
    pytest.skip('mmcv has compiled ops: the stand-in is not in use', allow_module_level=True)

from mmcv import _ext, ops  # noqa: E402

PART = sys.modules[_ext.deform_roi_pool_forward.__module__]
HALVES = [torch.float16, torch.bfloat16]
BINS = (2, 3)


def bilinear(image, y, x):
    """One sample of ``(H, W)``: 0 more than 1 beyond the middles of the outermost places, otherwise as at the edge."""
    height, width = image.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(())
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = min(int(y), height - 2), min(int(x), width - 2)
    dy, dx = y - top, x - left
    upper = (1 - dx) * image[top, left] + dx * image[top, left + 1]
    return (1 - dy) * upper + dy * ((1 - dx) * image[top + 1, left] + dx * image[top + 1, left + 1])


def plain(features, images, sizes, ratio, place, join):
    """Of each bin what ``join`` makes of its samples; ``place`` returns y and x from the parts of a box."""
    out = []
    for r, (image, (height, width)) in enumerate(zip(images, sizes.tolist())):
        counts = [ratio or math.ceil(size / n) for size, n in zip((height, width), BINS)]
        for channel in features[int(image)]:
            for i in range(BINS[0]):
                for j in range(BINS[1]):
                    samples = [
                        bilinear(channel, *place(r, i, j, (i + (a + 0.5) / counts[0]) / BINS[0], (j + b) / BINS[1]))
                        for a in range(counts[0])
                        for b in ((k + 0.5) / counts[1] for k in range(counts[1]))
                    ]
                    out.append(join(samples) if samples else features.new_zeros(()))
    return torch.stack(out).view(len(sizes), features.shape[1], *BINS)


def mean(samples):
    return sum(samples) / len(samples)


def assert_same(out, wanted, *inputs, tolerance=1e-11):
    assert out.shape == wanted.shape and torch.allclose(out, wanted, atol=tolerance)
    by = torch.randn_like(out)
    found, right = (torch.autograd.grad((t * by).sum(), inputs) for t in (out, wanted))
    for one, other in zip(found, right):
        assert other.abs().max() > 0 and torch.allclose(one, other, atol=tolerance)


def maps(channels=2, dtype=torch.float64):
    return torch.randn(2, channels, 5, 6, dtype=torch.float64).to(dtype).requires_grad_()


ROIS = [
    [0, 1, 2, 9, 11],
    [1, -3, -2, 6, 5],
    [0, 4, 4, 4, 4],
    [1, 10, 2, 30, 40],
    [1, 3, 3, 3.5, 3.4],
    [0, 60, 70, 80, 90],
]
"""Boxes inside, across the border, of no area, far across, tiny, and outside."""


def upright(rois, scale, shift):
    rois = torch.tensor(rois, dtype=torch.float64)
    first, last = (rois[:, k].flip(1) * scale - shift for k in (slice(1, 3), slice(3, 5)))
    return rois, first, last - first


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('moved', [True, False])
def test_deform_roi_pool(ratio, moved):
    torch.manual_seed(0)
    features, offset = maps(), torch.randn(6, 2, *BINS, dtype=torch.float64, requires_grad=True)
    rois, first, sizes = upright(ROIS, 0.4, 0.5)

    def place(r, i, j, down, right):
        by = 0.3 * offset[r, :, i, j].flip(0) if moved else torch.zeros(2)  # x comes before y
        return first[r] + sizes[r] * (torch.tensor([down, right], dtype=torch.float64) + by)

    inputs = (features, offset) if moved else (features,)
    out = ops.deform_roi_pool(features, rois, offset if moved else None, BINS, 0.4, ratio, 0.3)
    assert_same(out, plain(features, rois[:, 0], sizes, ratio, place, mean), *inputs)


@pytest.mark.parametrize('pack', [ops.DeformRoIPoolPack, ops.ModulatedDeformRoIPoolPack])
def test_deform_roi_pool_layers(pack):
    """As they begin nothing is moved, and masks are one half; after a step something is."""
    torch.manual_seed(0)
    layer, features, rois = pack(BINS, 2, 8, 0.4).double(), maps(), upright(ROIS, 1, 0)[0]
    plainly = ops.deform_roi_pool(features, rois, None, BINS, 0.4)
    out = layer(features, rois)
    assert torch.allclose(out, plainly * (0.5 if pack is ops.ModulatedDeformRoIPoolPack else 1))
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert layer.offset_fc[-1].bias.grad.abs().max() > 0


ROTATED = [
    [0, 3, 4, 5, 3, 0.0],
    [1, 3, 4, 5, 3, 0.6],
    [0, 0, 0, 9, 4, -2.0],
    [1, 6, 5, 0.2, 0.1, 9.0],
    [0, 99, 3, 4, 4, 1],
    [1, 5, 4, 30, 2, 3],
]
"""Straight, turned, across the border, tiny, outside, and longer than the map."""


def turned(scale, shift, clockwise):
    rois = torch.tensor(ROTATED, dtype=torch.float64)
    centre, sizes = rois[:, 1:3].flip(1) * scale - shift, rois[:, 3:5].flip(1) * scale
    sizes = sizes if shift else sizes.clamp_min(1)
    angle = rois[:, 5] * (-1 if clockwise else 1)

    def place(r, i, j, down, right):
        v, u = (down - 0.5) * sizes[r, 0], (right - 0.5) * sizes[r, 1]
        cos, sin = angle[r].cos(), angle[r].sin()
        return centre[r, 0] + v * cos - u * sin, centre[r, 1] + v * sin + u * cos

    return rois, sizes, place


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('clockwise', [True, False])
def test_roi_align_rotated(aligned, ratio, clockwise):
    torch.manual_seed(0)
    features, (rois, sizes, place) = maps(), turned(0.7, 0.5 if aligned else 0, clockwise)
    out = ops.roi_align_rotated(features, rois, BINS, 0.7, ratio, aligned, clockwise)
    assert_same(out, plain(features, rois[:, 0], sizes, ratio, place, mean), features)


def test_upright_boxes_are_those_of_roi_align():
    features, boxes = maps(), torch.tensor([[0, 1.0, 2, 4, 4.5], [1, 0, 0, 3, 3]], dtype=torch.float64)
    rotated = torch.cat([boxes[:, :1], (boxes[:, 1:3] + boxes[:, 3:]) / 2, boxes[:, 3:] - boxes[:, 1:3]], 1)
    found = ops.roi_align_rotated(features, torch.cat([rotated, torch.zeros(2, 1)], 1), BINS, 1.0, 2)
    assert torch.allclose(found, ops.roi_align(features, boxes, BINS, 1.0, 2), atol=1e-12)


@pytest.mark.parametrize('clockwise', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_riroi_align_rotated(ratio, clockwise):
    """Orientation o of a box turned by k and a part of a step is a mixture of those k and k - 1 before it."""
    torch.manual_seed(0)
    features, (rois, sizes, place) = maps(channels=8), turned(0.7, 0, clockwise)
    pooled = plain(features, rois[:, 0], sizes, ratio, place, mean).unflatten(1, (2, 4))
    wanted = []
    for r, angle in enumerate(rois[:, 5].tolist()):
        step = math.floor(angle * 4 / (2 * math.pi))
        part = angle * 4 / (2 * math.pi) - step
        for c in range(2):
            for o in range(4):
                first, second = pooled[r, c, (o - step) % 4], pooled[r, c, (o - step + 1) % 4]
                wanted.append((1 - part) * first + part * second)
    out = ops.riroi_align_rotated(features, rois, BINS, 0.7, ratio, 4, clockwise)
    assert_same(out, torch.stack(wanted).view(out.shape), features)


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_of_maxima(aligned, ratio):
    torch.manual_seed(0)
    features, (rois, first, sizes) = maps(), upright(ROIS, 0.4, 0.5 if aligned else 0)
    sizes = sizes if aligned else sizes.clamp_min(1)

    def place(r, i, j, down, right):
        return first[r] + sizes[r] * torch.tensor([down, right], dtype=torch.float64)

    out = ops.roi_align(features, rois, BINS, 0.4, ratio, 'max', aligned)
    wanted = plain(features, rois[:, 0], sizes, ratio, place, lambda samples: torch.stack(samples).max())
    assert_same(out, wanted, features)


CALLS = {
    'deformable': lambda x, rois: ops.deform_roi_pool(x, rois[:, :5], None, BINS, 0.4),
    'moved': lambda x, rois: ops.deform_roi_pool(x, rois[:, :5], rois.new_ones(len(rois), 2, *BINS), BINS, 0.4, 2),
    'rotated': lambda x, rois: ops.roi_align_rotated(x, rois, BINS, 0.7),
    'oriented': lambda x, rois: ops.riroi_align_rotated(x, rois, BINS, 0.7, 0, 4),
    'maxima': lambda x, rois: ops.roi_align(x, rois[:, :5], BINS, 0.4, 2, 'max'),
}


@pytest.mark.parametrize('call', CALLS)
def test_half_precision_nothing_and_parts(call, monkeypatch):
    """Half precision is computed in single; no box and no sample give zeros; parts of the boxes give what all give."""
    torch.manual_seed(0)
    op, rois = CALLS[call], torch.tensor([r for r in ROTATED for _ in range(3)])
    features = maps(channels=4, dtype=torch.float32)
    wanted = op(features, rois)
    (gradient,) = torch.autograd.grad(wanted.sum(), features)
    for dtype in HALVES:
        half = features.detach().to(dtype).requires_grad_()
        out = op(half, rois.to(dtype))
        again = op(half.detach().float(), rois.to(dtype).float())
        assert out.dtype is dtype and torch.equal(out, again.to(dtype))
        out.sum().backward()
        assert half.grad.dtype is dtype and half.grad.isfinite().all()
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(op(features, rois), wanted)
    empty = op(features, rois[:0])
    empty.sum().backward()
    assert empty.shape == (0, 4, *BINS) and not features.grad.any()
    monkeypatch.setattr(PART, 'VALUES', 1)
    assert torch.allclose(op(features, rois), wanted, atol=1e-6)
    assert torch.allclose(torch.autograd.grad(op(features, rois).sum(), features)[0], gradient, atol=1e-5)


def test_a_box_without_samples():
    """As a box of no area has none where they are as many as its places."""
    features, rois = maps(), torch.tensor([[0, 3, 3, 3, 3]], dtype=torch.float64)
    for out in (
        ops.deform_roi_pool(features, rois, None, BINS),
        ops.roi_align_rotated(features, torch.tensor([[0, 3, 3, 0, 0, 1]], dtype=torch.float64), BINS, 1.0),
        ops.roi_align(features, rois, BINS, 1.0, 0, 'max'),
    ):
        (gradient,) = torch.autograd.grad(out.sum(), features)
        assert not out.any() and not gradient.any()
