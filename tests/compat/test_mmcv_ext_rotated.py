"""Rotated boxes and quadrilaterals without compiled ops, against polygons clipped one by one, through mmcv's ops."""

import math
import sys
from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from qsdt_mm import compat

if compat.ops_are_compiled():
    pytest.skip('mmcv has compiled ops: the stand-in is not in use', allow_module_level=True)

from mmcv import _ext, ops  # noqa: E402

PART = sys.modules[_ext.nms_rotated.__module__]
HALVES = [torch.float16, torch.bfloat16]


def cross(o, a, b):
    return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])


def ring(points):
    return pairwise([*points, points[0]])


def area(points):
    return sum(a[0] * b[1] - a[1] * b[0] for a, b in ring(points)) / 2 if points else 0


def clipped(points, convex):
    """The part of a polygon inside a convex one, side after side (Sutherland and Hodgman)."""
    convex = convex if area(convex) > 0 else convex[::-1]
    for a, b in ring(convex):
        left, points = points, []
        for p, q in ring(left) if left else ():
            here, there = cross(a, b, p), cross(a, b, q)
            if here >= 0:
                points.append(p)
            if here * there < 0:
                t = here / (here - there)
                points.append(tuple(u + t * (v - u) for u, v in zip(p, q)))
    return points


def plain(one, other, mode='iou'):
    shared, first, second = (abs(area(points)) for points in (clipped(one, other), one, other))
    return shared / (first if mode == 'iof' else first + second - shared)


def corners(box):
    x, y, w, h, angle = box
    cos, sin = math.cos(angle), math.sin(angle)
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return [(x + (i * w * cos - j * h * sin) / 2, y + (i * w * sin + j * h * cos) / 2) for i, j in signs]


def random_boxes(count, size=20.0, seed=0, dtype=torch.float64):
    numbers = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scale, shift = torch.tensor([size, size, 20.0, 20.0, 12.0]), torch.tensor([0, 0, 0.1, 0.1, -6.0])
    return (numbers * scale + shift).to(dtype)


def test_the_plain_formula_knows_what_is_known():
    square = [(0, 0), (2, 0), (2, 2), (0, 2)]
    assert plain(square, [(1, 1), (1, 3), (3, 3), (3, 1)]) == 1 / 7
    assert plain(square, [(2, 0), (4, 0), (4, 2), (2, 2)]) == 0


@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_random_boxes(mode, dtype, tolerance):
    one, other = random_boxes(1500, dtype=dtype), random_boxes(1500, seed=1, dtype=dtype)
    found = ops.box_iou_rotated(one, other, mode, aligned=True)
    wanted = [plain(corners(a), corners(b), mode) for a, b in zip(one.tolist(), other.tolist())]
    assert found.dtype is dtype and sum(0 < value < 1 for value in wanted) > 800
    assert torch.allclose(found.double(), torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=tolerance)


UNIT = [0, 0, 2, 2, 0]
CASES = {
    'the same': (UNIT, UNIT, 1, 1),
    'an eighth of a turn': (UNIT, [0, 0, 2, 2, math.pi / 4], 0.5**0.5, 2 * (2**0.5 - 1)),
    'a quarter, sides exchanged': ([3, 4, 6, 2, 0.3], [3, 4, 2, 6, 0.3 + math.pi / 2], 1, 1),
    'half a turn': ([3, 4, 6, 2, 0.3], [3, 4, 6, 2, 0.3 - math.pi], 1, 1),
    'inside': ([0.2, 0.1, 0.5, 0.5, 1], UNIT, 1 / 16, 1),
    'around': (UNIT, [0.2, 0.1, 0.5, 0.5, 1], 1 / 16, 1 / 16),
    'inside at the side': ([-0.5, 0, 1, 2, 0], UNIT, 0.5, 1),
    'a cross': ([5, 5, 10, 2, 0.7], [5, 5, 2, 10, 0.7], 1 / 9, 0.2),
    'a cross turned': ([5, 5, 10, 2, 0.7], [5, 5, 10, 2, 0.7 + math.pi / 2], 1 / 9, 0.2),
    'side by side': (UNIT, [2, 0, 2, 2, 0], 0, 0),
    'corner to corner': (UNIT, [2, 2, 2, 2, 0], 0, 0),
    'corner to side': (UNIT, [1 + 2**0.5, 0, 2, 2, math.pi / 4], 0, 0),
    'circles meet, boxes do not': ([0, 0, 10, 1, 0], [0, 2, 10, 1, 0], 0, 0),
    'far': (UNIT, [1e4, -1e4, 2, 2, 1], 0, 0),
    'without width': (UNIT, [0, 0, 0, 2, 0.5], 0, 0),
    'without width itself': ([0, 0, 0, 2, 0.5], UNIT, 0, 0),
    'both without width': ([0, 0, 0, 2, 0.5], [0, 0, 0, 2, 0.5], 0, 0),
    'a point': ([0, 0, 0, 0, 0], UNIT, 0, 0),
    'small in large': ([3, 3, 1e-2, 1e-2, 0.4], [0, 0, 1e3, 1e3, 0.1], 1e-10, 1),
    'a hair': ([0, 0, 1e3, 1e-2, 0], [0, 0, 1e-2, 1e3, 0], 1e-4 / (20 - 1e-4), 1e-5),
    'far out': ([5e3, 5e3, 4, 2, 0.5], [5e3, 5e3, 2, 4, 0.5 + math.pi / 2], 1, 1),
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_known_overlaps(case, dtype, tolerance):
    one, other = (torch.tensor([box], dtype=dtype) for box in CASES[case][:2])
    for mode, wanted in zip(('iou', 'iof'), CASES[case][2:]):
        found = ops.box_iou_rotated(one, other, mode).item()
        assert found == pytest.approx(wanted, abs=tolerance, rel=1e-3 if dtype is torch.float32 else 1e-9)
        assert 0 <= found <= 1 and (wanted or found == 0)


def test_each_with_each_and_how_many_at_once(monkeypatch):
    """However many pairs are computed at once, also if one box has more than that many around it."""
    one, other = random_boxes(30), random_boxes(40, size=60.0, seed=1)
    each = torch.stack([ops.box_iou_rotated(box.expand(40, 5), other, aligned=True) for box in one])
    most = []
    ratios = PART._ratios
    monkeypatch.setattr(PART, '_ratios', lambda a, b, f: most.append(len(a.values)) or ratios(a, b, f))
    for at_once in (1 << 14, 100, 7):
        monkeypatch.setitem(PART.PAIRS, 'cpu', at_once)
        most.clear()
        assert torch.equal(ops.box_iou_rotated(one, other), each)
        assert torch.equal(ops.box_iou_rotated(one, other[:30], aligned=True), each[:, :30].diagonal())
        assert 0 < max(most) <= at_once
    assert ops.box_iou_rotated(one[:0], other).shape == (0, 40) and ops.box_iou_rotated(one, other[:0]).shape == (30, 0)
    assert ops.box_iou_rotated(one[:0], other[:0], aligned=True).shape == (0,)


def test_what_changes_nothing():
    one, other = random_boxes(200), random_boxes(200, seed=1)
    found = ops.box_iou_rotated(one, other, aligned=True)
    assert torch.allclose(ops.box_iou_rotated(other, one, aligned=True), found, atol=1e-12)
    mirrored = torch.tensor([1.0, 1, 1, 1, -1])
    assert torch.equal(ops.box_iou_rotated(one * mirrored, other * mirrored, aligned=True, clockwise=False), found)
    cos, sin = math.cos(0.8), math.sin(0.8)

    def turned(boxes):
        x, y, w, h, angle = boxes.unbind(1)
        return torch.stack([3 * (x * cos - y * sin) + 7, 3 * (x * sin + y * cos), 3 * w, 3 * h, angle + 0.8], 1)

    assert torch.allclose(ops.box_iou_rotated(turned(one), turned(other), aligned=True), found, atol=1e-12)


@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_is_computed_in_single(dtype):
    one, other = random_boxes(50, dtype=dtype), random_boxes(60, seed=1, dtype=dtype)
    wanted = ops.box_iou_rotated(one.float(), other.float())
    assert torch.equal(ops.box_iou_rotated(one, other), wanted.to(dtype))
    scores = torch.linspace(0.1, 0.9, 50).to(dtype)
    assert torch.equal(ops.nms_rotated(one, scores, 0.3)[1], ops.nms_rotated(one.float(), scores.float(), 0.3)[1])


def test_no_gradient_is_taken():
    boxes = random_boxes(5).requires_grad_()
    assert not ops.box_iou_rotated(boxes, boxes).requires_grad


def lattice_quads(count, seed):
    """Convex ones with whole coordinates, either way round: many touch, share corners or sides, or are equal."""
    source, quads = torch.Generator().manual_seed(seed), []
    while len(quads) < count:
        quad = [tuple(p) for p in torch.randint(0, 6, (4, 2), generator=source).tolist()]
        turns = [cross(a, b, c) for (a, b), (_, c) in pairwise([*ring(quad), *ring(quad)][:5])]
        if min(turns) > 0 or max(turns) < 0:
            quads.append(quad)
    return quads


def as_tensor(quads, dtype=torch.float64):
    return torch.tensor(quads, dtype=dtype).flatten(1)


@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_quadrilaterals(mode):
    one, other = lattice_quads(25, 0), lattice_quads(25, 1)
    exact = [[[tuple(map(Fraction, p)) for p in quad] for quad in quads] for quads in (one, other)]
    wanted = torch.tensor([[float(plain(a, b, mode)) for b in exact[1]] for a in exact[0]])
    assert {0.0, 1.0} < set(wanted.flatten().tolist()) or mode == 'iou'
    found = ops.box_iou_quadri(as_tensor(one), as_tensor(other), mode)
    assert torch.allclose(found, wanted.double(), atol=1e-7)
    single = ops.box_iou_quadri(as_tensor(one, torch.float32), as_tensor(other, torch.float32), mode, aligned=True)
    assert torch.allclose(single, wanted.diagonal(), atol=1e-6)


def test_quadrilaterals_that_are_not_convex():
    arrow, square = [[0, 0, 4, 0, 1, 1, 0, 4]], [[1, 1, 4, 1, 4, 4, 1, 4]]
    found = ops.box_iou_quadri(torch.tensor(arrow).double(), torch.tensor(square).double())
    assert found.item() == pytest.approx(0, abs=1e-12)
    square = torch.tensor([[0.0, 0, 1, 0, 1, 1, 0, 1]])
    assert ops.box_iou_quadri(square, torch.tensor(arrow).float(), 'iof').item() == pytest.approx(1)
    nothing = torch.tensor([[0.0, 0, 1, 1, 2, 2, 3, 3]])
    assert ops.box_iou_quadri(nothing, nothing).item() == 0


def test_boxes_are_quadrilaterals():
    one, other = random_boxes(30), random_boxes(30, seed=1)
    as_quads = [torch.tensor([corners(b) for b in boxes.tolist()]).double().flatten(1) for boxes in (one, other)]
    assert torch.allclose(ops.box_iou_quadri(*as_quads), ops.box_iou_rotated(one, other), atol=1e-6)


def plain_nms(polygons, scores, threshold):
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if all(plain(polygons[i], polygons[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize('block', [256, 8])
@pytest.mark.parametrize('threshold', [0.05, 0.5])
def test_nms(threshold, block, monkeypatch):
    monkeypatch.setattr(PART, 'BLOCK', block)
    boxes, scores = random_boxes(40, size=30.0), torch.randperm(40).double() / 40
    polygons = [corners(box) for box in boxes.tolist()]
    wanted = plain_nms(polygons, scores, threshold)
    dets, kept = ops.nms_rotated(boxes, scores, threshold)
    assert kept.tolist() == wanted and 3 < len(wanted) < 40
    assert torch.equal(dets, torch.cat([boxes[kept], scores[kept, None]], 1))
    mirrored = boxes * torch.tensor([1.0, 1, 1, 1, -1])
    assert ops.nms_rotated(mirrored, scores, threshold, clockwise=False)[1].tolist() == wanted
    quads = torch.tensor(polygons, dtype=torch.float64).flatten(1)
    dets, kept = ops.nms_quadri(quads, scores, threshold)
    assert kept.tolist() == wanted and torch.equal(dets, torch.cat([quads[kept], scores[kept, None]], 1))


def test_nms_of_classes():
    """Labels that are handed over part nothing, as with compiled ops; ``batched_nms`` keeps classes apart."""
    box = torch.tensor([[5.0, 5, 4, 2, 0.3]])
    boxes, scores, labels = box.repeat(3, 1), torch.tensor([0.7, 0.9, 0.8]), torch.tensor([0, 0, 1])
    assert ops.nms_rotated(boxes, scores, 0.5, labels.float())[1].tolist() == [1]
    quads = torch.tensor([corners(box[0].tolist())] * 3).flatten(1)
    assert ops.nms_quadri(quads, scores, 0.5, labels.float())[1].tolist() == [1]
    for name, rows in (('nms_rotated', boxes), ('nms_quadri', quads)):
        dets, kept = ops.batched_nms(rows, scores, labels, dict(type=name, iou_threshold=0.5))
        assert kept.tolist() == [1, 2] and dets[:, -1].tolist() == pytest.approx([0.9, 0.8])
    assert ops.nms_rotated(boxes[:0], scores[:0], 0.5)[1] is None
