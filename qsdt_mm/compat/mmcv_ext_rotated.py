"""Rotated boxes and quadrilaterals of :mod:`qsdt_mm.compat.mmcv_ext`: overlaps from exact areas, and NMS by them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PAIRS = dict(cpu=1 << 14)
"""Pairs whose overlap is computed at once: what that takes stays within a processor's cache."""
MANY_PAIRS = 1 << 20
"""Those on other devices."""
BLOCK = 256
"""Boxes that NMS chooses among before the others are compared with those it has chosen."""
NO_AREA = 1e-14
ROUNDING = 16
"""Shared parts of the smaller box below so many roundings are none: boxes that only touch share nothing."""


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _crossing(value: Tensor, change: Tensor) -> Tensor:
    """Return t from 0 to 1 where ``value + t change`` is 0, or is nearest to it; any t if it does not change."""
    return (-value / change.where(change != 0, 1)).clamp(0, 1)


def _area_within(x: Tensor, y: Tensor, slope: float) -> Tensor:
    """Return the signed area of polygons ``(K, corners)`` within 0 <= x <= 1, 0 <= y <= 1 - slope x.

    It is minus the sum over all edges of the integral of y dx (Green), with both limited to that region; along an edge
    y is then linear between four places. Nothing jumps, whatever lies on whatever, and so nothing has to be sorted.
    """
    dx, dy = x.roll(-1, -1) - x, y.roll(-1, -1) - y
    left, right = _crossing(x, dx), _crossing(x - 1, dx)
    begin, end = torch.minimum(left, right), torch.maximum(left, right)
    bottom, top = _crossing(y, dy), _crossing(y + slope * x - 1, dy + slope * dx)
    lower, upper = torch.minimum(bottom, top), torch.maximum(bottom, top)
    limited_x = x.clamp(0, 1)
    places = [(begin, limited_x)]
    for t in (lower, upper):
        t = torch.minimum(torch.maximum(t, begin), end)
        places.append((t, (x + t * dx).clamp(0, 1)))
    places.append((end, limited_x.roll(-1, -1)))
    total, before = 0, None
    for t, here_x in places:
        here_y = torch.minimum((y + t * dy).clamp_min(0), 1 - slope * here_x)
        if before is not None:
            total = total + (before[0] - here_x) * (before[1] + here_y)
        before = here_x, here_y
    return total.sum(-1) / 2


class _Rotated:
    """Boxes ``(N, 5)``: x and y of the centre, width, height, angle in radians from x towards y."""

    size = 5

    @staticmethod
    def area(boxes: Tensor) -> Tensor:
        return boxes[..., 2] * boxes[..., 3]

    @staticmethod
    def circle(boxes: Tensor) -> tuple[Tensor, Tensor]:
        return boxes[..., :2], torch.hypot(boxes[..., 2], boxes[..., 3]) / 2

    @staticmethod
    def shared(boxes1: Tensor, boxes2: Tensor) -> Tensor:
        """Return the areas that pairs share: of the second, where the first is the unit square."""
        (x1, y1, w1, h1, a1), (x2, y2, w2, h2, a2) = boxes1.unbind(-1), boxes2.unbind(-1)
        cos, sin, turn = a1.cos(), a1.sin(), a2 - a1
        x, y = (x2 - x1) * cos + (y2 - y1) * sin, (y2 - y1) * cos - (x2 - x1) * sin
        along, across = turn.cos() / 2, turn.sin() / 2
        ux, uy, vx, vy = w2 * along, w2 * across, -h2 * across, h2 * along  # half of the second's sides
        corners_x = torch.stack([x + ux + vx, x - ux + vx, x - ux - vx, x + ux - vx], -1)
        corners_y = torch.stack([y + uy + vy, y - uy + vy, y - uy - vy, y + uy - vy], -1)
        within = _area_within(corners_x / w1[:, None] + 0.5, corners_y / h1[:, None] + 0.5, 0)
        return (within * w1 * h1).abs()


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


class _Quadrilaterals:
    """Boxes ``(N, 8)``: x and y of four corners in turn."""

    size = 8

    @staticmethod
    def area(boxes: Tensor) -> Tensor:
        corners = boxes.unflatten(-1, (4, 2))
        return _cross(corners[..., 2, :] - corners[..., 0, :], corners[..., 3, :] - corners[..., 1, :]).abs() / 2

    @staticmethod
    def circle(boxes: Tensor) -> tuple[Tensor, Tensor]:
        corners = boxes.unflatten(-1, (4, 2))
        centre = corners.mean(-2)
        return centre, (corners - centre[..., None, :]).square().sum(-1).amax(-1).sqrt()

    @staticmethod
    def shared(boxes1: Tensor, boxes2: Tensor) -> Tensor:
        """Return the areas that pairs share: of the second, with each half of the first as the unit triangle."""
        corners1, corners2 = boxes1.unflatten(-1, (4, 2)), boxes2.unflatten(-1, (4, 2))
        places = corners2 - corners1[:, :1]
        total = 0
        for one, other in ((1, 2), (2, 3)):
            u, v = (corners1[:, k] - corners1[:, 0] for k in (one, other))
            twice = _cross(u, v)
            scale = twice.where(twice != 0, 1)[:, None]
            within = _area_within(_cross(places, v[:, None]) / scale, _cross(u[:, None], places) / scale, 1)
            # A half turned the other way is one to take off, and turns the second, too.
            total = total + twice.abs() * within
        return total.abs()


Kind = type[_Rotated] | type[_Quadrilaterals]


class _Boxes(NamedTuple):
    """Boxes with their areas and the circles around them."""

    kind: Kind
    values: Tensor
    area: Tensor
    centre: Tensor
    radius: Tensor

    @classmethod
    def of(cls, kind: Kind, values: Tensor) -> _Boxes:
        values = _wide(values.detach()[:, : kind.size])
        return cls(kind, values, kind.area(values), *kind.circle(values))

    def at(self, index: Tensor | slice) -> _Boxes:
        return _Boxes(self.kind, *(t[index] for t in self[1:]))


def _ratios(boxes1: _Boxes, boxes2: _Boxes, of_first: bool) -> Tensor:
    """Return what pairs of boxes share, as a part of their union or of the first; 0 where one has no area."""
    first_is_small = (boxes1.area <= boxes2.area)[:, None]
    small = boxes1.values.where(first_is_small, boxes2.values)
    large = boxes2.values.where(first_is_small, boxes1.values)
    most = torch.minimum(boxes1.area, boxes2.area)
    shared = torch.minimum(boxes1.kind.shared(small, large), most)
    shared = shared.where(shared > ROUNDING * torch.finfo(shared.dtype).eps * most, 0)
    whole = boxes1.area if of_first else boxes1.area + boxes2.area - shared
    return (shared / whole).where((boxes1.area >= NO_AREA) & (boxes2.area >= NO_AREA), 0)


def _fill(out: Tensor, boxes1: _Boxes, boxes2: _Boxes, of_first: bool = False) -> Tensor:
    """Write the ratio of each box with each into ``out``, ``(N, M)``; return it."""
    out.zero_()
    at_once = PAIRS.get(out.device.type, MANY_PAIRS)
    rows = max(at_once // max(out.shape[1], 1), 1)
    for start in range(0, out.shape[0], rows):
        centre, radius = boxes1.centre[start : start + rows, None], boxes1.radius[start : start + rows, None]
        near = (centre - boxes2.centre).square().sum(-1) <= (radius + boxes2.radius).square()
        pairs = near.nonzero()
        for i, j in (some.unbind(1) for some in pairs.split(at_once)):
            i = i + start
            out[i, j] = _ratios(boxes1.at(i), boxes2.at(j), of_first).to(out.dtype)
    return out


def _overlaps(kind: Kind, bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    boxes1, boxes2 = _Boxes.of(kind, bboxes1), _Boxes.of(kind, bboxes2)
    if not aligned:
        _fill(ious.view(len(bboxes1), len(bboxes2)), boxes1, boxes2, mode_flag == 1)
        return
    at_once = PAIRS.get(ious.device.type, MANY_PAIRS)
    for some in (slice(start, start + at_once) for start in range(0, len(bboxes1), at_once)):
        ious[some] = _ratios(boxes1.at(some), boxes2.at(some), mode_flag == 1).to(ious.dtype)


@torch.no_grad()
def box_iou_rotated(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    """Write the overlaps of rotated boxes into ``ious``.

    Args:
        bboxes1, bboxes2: ``(N, 5)``, ``(M, 5)``: x and y of the centre, width, height, angle in radians from x to y.
        ious: ``(N * M,)``, or ``(N,)`` if ``aligned``, filled.
        mode_flag: 0 divides by the union, 1 by the first box.
        aligned: each with the one at its place.
    """
    _overlaps(_Rotated, bboxes1, bboxes2, ious, mode_flag, aligned)


@torch.no_grad()
def box_iou_quadri(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    """Write the overlaps of quadrilaterals ``(N, 8)``, ``(M, 8)`` into ``ious``, as :func:`box_iou_rotated` does.

    Any whose sides do not cross are measured exactly; compiled kernels take each for a rectangle where they ask
    whether a corner lies inside.
    """
    _overlaps(_Quadrilaterals, bboxes1, bboxes2, ious, mode_flag, aligned)


def _nms(kind: Kind, order: Tensor, dets_sorted: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the boxes kept, by falling score: each overlaps no kept one by more than the threshold."""
    boxes, count = _Boxes.of(kind, dets_sorted), len(order)
    left = torch.ones(count, dtype=torch.bool, device=order.device)
    kept = [order.new_zeros(0)]

    def overlapping(one: _Boxes, other: _Boxes) -> Tensor:
        ratios = one.values.new_empty(len(one.values), len(other.values))
        return _fill(ratios, one, other) > iou_threshold

    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        block = left[start:stop].nonzero().flatten() + start
        clash = overlapping(boxes.at(block), boxes.at(block)).cpu().numpy()
        chosen, free = [], np.ones(len(block), dtype=bool)
        for k in range(len(block)):
            if free[k]:
                chosen.append(k)
                free &= ~clash[k]
        chosen = block[torch.tensor(chosen, dtype=torch.long, device=block.device)]
        kept.append(chosen)
        rest = left[stop:].nonzero().flatten() + stop
        left[rest] = ~overlapping(boxes.at(chosen), boxes.at(rest)).any(0)
    return order[torch.cat(kept)]


@torch.no_grad()
def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Return the indices of the rotated boxes kept, by falling score.

    Labels do not part boxes, as they do not in compiled kernels: mmcv's ``batched_nms`` moves classes apart instead.

    Args:
        dets: ``(N, 5)``, with labels in a sixth column if ``multi_label``.
        scores: ``(N,)``.
        order: indices by falling score.
        dets_sorted: ``dets`` in that order.
        labels: not needed.
        iou_threshold: boxes that overlap a better one by more go.
        multi_label: whether there are labels.
    """
    return _nms(_Rotated, order, dets_sorted, iou_threshold)


@torch.no_grad()
def nms_quadri(
    dets: Tensor, scores: Tensor, order: Tensor, dets_sorted: Tensor, iou_threshold: float, multi_label: bool
) -> Tensor:
    """Return the indices of the quadrilaterals ``(N, 8)`` kept, as :func:`nms_rotated` does."""
    return _nms(_Quadrilaterals, order, dets_sorted, iou_threshold)


OPS = ('box_iou_rotated', 'box_iou_quadri', 'nms_rotated', 'nms_quadri')
