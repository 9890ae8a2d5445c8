"""Ops of :mod:`qsdt_mm.compat.mmcv_ext` that sample boxes of a map: deformable, rotated, and RoIAlign of maxima."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

VALUES = 1 << 22
"""Values that are sampled at once, if one box does not take more."""
NOWHERE = -2
"""A place that is on no map."""

Locate = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors)


def _bilinear(maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return samples of maps ``(N, C, H, W)`` at places ``(N, P, Q)``: 0 where they are off the map by more than 1."""
    height, width = maps.shape[2:]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    values = functional.grid_sample(maps, grid.to(maps.dtype), padding_mode='border', align_corners=False)
    reached = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    return values.where(reached[:, None], 0)


def _samples(
    features: Tensor, image: Tensor, sizes: Tensor, bins: Sequence[int], ratio: int, locate: Locate
) -> Iterator[tuple[Tensor, ...]]:
    """Yield some boxes at a time: their indices, samples ``(C, r, h, w, n)`` and y and x of these ``(r, h, w, n)``.

    Args:
        features: ``(N, C, H, W)``.
        image: ``(R,)``, the map of each box.
        sizes: ``(R, 2)``, heights and widths, in places of the map.
        bins: h and w.
        ratio: samples along each side of a bin; with 0 as many as it has places, rounded up.
        locate: returns y and x ``(r, h, w, n along y, n along x)`` for indices of boxes, from parts of their heights
            ``(h, 1, n along y, 1)`` and widths ``(w, 1, n along x)``.
    """
    counts = torch.full_like(sizes, ratio) if ratio > 0 else torch.ceil(sizes / sizes.new_tensor(bins))
    alike, group = torch.cat([image[:, None], counts], 1).long().unique(dim=0, return_inverse=True)
    for number, (index, *samples) in enumerate(alike.tolist()):
        if min(samples) < 1:
            continue
        down, right = (
            (torch.arange(n).to(sizes).view(-1, 1) + (torch.arange(m).to(sizes) + 0.5) / m) / n
            for n, m in zip(bins, samples)
        )
        at_once = max(VALUES // (features.shape[1] * math.prod([*bins, *samples])), 1)
        for boxes in (group == number).nonzero().flatten().split(at_once):
            places = locate(boxes, down[:, None, :, None], right[:, None])
            y, x = (t.expand(len(boxes), *bins, *samples).flatten(3) for t in places)
            rows = (t.reshape(1, -1, t.shape[-1]) for t in (y, x))
            values = _bilinear(features[index : index + 1], *rows)
            yield boxes, values[0].unflatten(1, (len(boxes), *bins)), y, x


def _mean(features: Tensor, image: Tensor, sizes: Tensor, bins: Sequence[int], ratio: int, locate: Locate) -> Tensor:
    """Return the mean of each bin ``(R, C, h, w)``, 0 without samples; arguments as of :func:`_samples`."""
    out = features.new_zeros(len(image), features.shape[1], *bins)
    for boxes, values, _, _ in _samples(features, image, sizes, bins, ratio, locate):
        out[boxes] = values.mean(-1).transpose(0, 1)
    return out


def _gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor], gradient: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of ``function(*inputs)`` by its inputs, of which half precision is computed in float32."""
    with torch.enable_grad(), torch.autocast(gradient.device.type, enabled=False):
        leaves = [t.detach().requires_grad_() for t in _wide(*inputs)]
        out = function(*leaves)
        if not out.requires_grad:  # nothing was sampled
            return tuple(torch.zeros_like(t) for t in leaves)
        return torch.autograd.grad(out, leaves, gradient.to(out.dtype))


def _bins(values: Tensor) -> Tensor:
    """Return values of boxes for bins and samples."""
    return values[(..., *[None] * 4)]


def _corners(rois: Tensor, spatial_scale: float, shift: float) -> tuple[Tensor, Tensor]:
    """Return y and x of the first corners ``(R, 2)`` of upright boxes ``(R, 5)``, and heights and widths."""
    corners = _wide(rois)[0][:, 1:].unflatten(1, (2, 2)).flip(2) * spatial_scale - shift
    return corners[:, 0], corners[:, 1] - corners[:, 0]


def _deform(
    rois: Tensor, pooled_height: int, pooled_width: int, spatial_scale: float, sampling_ratio: int, gamma: float
) -> Callable[[Tensor, Tensor], Tensor]:
    first, sizes = _corners(rois, spatial_scale, 0.5)

    def pool(features: Tensor, offset: Tensor) -> Tensor:
        def locate(boxes: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
            places = []
            for axis, part in enumerate(parts):
                size = _bins(sizes[boxes, axis])
                moved = gamma * offset[boxes, 1 - axis][..., None, None] if offset.numel() else 0  # x comes first
                places.append(_bins(first[boxes, axis]) + size * (part + moved))
            return tuple(places)

        return _mean(features, rois[:, 0], sizes, (pooled_height, pooled_width), sampling_ratio, locate)

    return pool


def deform_roi_pool_forward(input: Tensor, rois: Tensor, offset: Tensor, output: Tensor, **sizes: float) -> None:
    """Write deformable RoI pooling (arXiv 1703.06211): the mean of samples of each bin, moved by its offset.

    Args:
        input: ``(N, C, H, W)``.
        rois: ``(R, 5)``, image and corners.
        offset: ``(R, 2, h, w)``, of each bin along x and y, as parts of the box times ``gamma``; or empty.
        output: ``(R, C, h, w)``, filled.
        sizes: ``pooled_height``, ``pooled_width``, ``spatial_scale``, ``sampling_ratio``, ``gamma``.
    """
    with torch.autocast(input.device.type, enabled=False):
        output.copy_(_deform(rois, **sizes)(*_wide(input, offset)))


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    **sizes: float,
) -> None:
    """Write the gradients of :func:`deform_roi_pool_forward`.

    A sample beyond the outermost places has the value at the edge, and so no gradient by its offset across the edge,
    where compiled kernels go on with the slope inside.
    """
    pool, inputs = _deform(rois, **sizes), (input, offset)
    if not offset.numel():
        pool, inputs = (lambda features: _deform(rois, **sizes)(features, offset)), (input,)
    for target, value in zip((grad_input, grad_offset), _gradients(pool, inputs, grad_output)):
        target.copy_(value)


def _rotated(
    rois: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> Callable[[Tensor], Tensor]:
    (rois,) = _wide(rois)
    centre, sizes = rois[:, 1:3] * spatial_scale - (0.5 if aligned else 0), rois[:, 3:5].flip(1) * spatial_scale
    sizes = sizes if aligned else sizes.clamp_min(1)
    angle = -rois[:, 5] if clockwise else rois[:, 5]

    def locate(boxes: Tensor, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        x, y, height, width = (_bins(t) for t in (*centre[boxes].unbind(1), *sizes[boxes].unbind(1)))
        cos, sin = _bins(angle[boxes].cos()), _bins(angle[boxes].sin())
        v, u = (down - 0.5) * height, (right - 0.5) * width
        return y + v * cos - u * sin, x + v * sin + u * cos

    bins = (pooled_height, pooled_width)
    return lambda features: _mean(features, rois[:, 0], sizes, bins, sampling_ratio, locate)


def roi_align_rotated_forward(input: Tensor, rois: Tensor, output: Tensor, **sizes: float) -> None:
    """Write RoIAlign of boxes at an angle: the mean of samples of each bin.

    Args:
        input: ``(N, C, H, W)``.
        rois: ``(R, 6)``, image, x and y of the centre, width, height, angle in radians.
        output: ``(R, C, h, w)``, filled.
        sizes: ``pooled_height``, ``pooled_width``, ``spatial_scale``, ``sampling_ratio``, ``aligned``, ``clockwise``.
    """
    with torch.autocast(input.device.type, enabled=False):
        output.copy_(_rotated(rois, **sizes)(*_wide(input)))


def roi_align_rotated_backward(grad_output: Tensor, rois: Tensor, grad_input: Tensor, **sizes: float) -> None:
    """Write the gradient of :func:`roi_align_rotated_forward` by its input."""
    (gradient,) = _gradients(_rotated(rois, **sizes), (grad_input,), grad_output)  # linear: the same at any input
    grad_input.copy_(gradient)


def _turned(
    rois: Tensor, num_samples: int, num_orientations: int, clockwise: bool, **sizes: float
) -> Callable[[Tensor], Tensor]:
    pool = _rotated(rois, sampling_ratio=num_samples, aligned=False, clockwise=clockwise, **sizes)
    turns = _wide(rois)[0][:, 5] * num_orientations / (2 * math.pi)
    whole = turns.floor()
    part = _bins(turns - whole)
    orientations = torch.arange(num_orientations, device=rois.device)
    source = (orientations - whole.long()[:, None]) % num_orientations

    def align(features: Tensor) -> Tensor:
        pooled = pool(features).unflatten(1, (-1, num_orientations))
        one, next_one = (
            pooled.gather(2, index[:, None, :, None, None].expand_as(pooled))
            for index in (source, (source + 1) % num_orientations)
        )
        return torch.lerp(one, next_one, part.to(one.dtype)).flatten(1, 2)

    return align


def riroi_align_rotated_forward(features: Tensor, rois: Tensor, output: Tensor, **sizes: float) -> None:
    """Write rotation-invariant RoIAlign (arXiv 2103.07733): the orientations of channels turn with the box.

    Args:
        features: ``(N, C * num_orientations, H, W)``.
        rois: ``(R, 6)``, as of :func:`roi_align_rotated_forward`.
        output: ``(R, C * num_orientations, h, w)``, filled.
        sizes: ``pooled_height``, ``pooled_width``, ``spatial_scale``, ``num_samples``, ``num_orientations``,
            ``clockwise``.
    """
    with torch.autocast(features.device.type, enabled=False):
        output.copy_(_turned(rois, **sizes)(*_wide(features)))


def riroi_align_rotated_backward(top_grad: Tensor, rois: Tensor, bottom_grad: Tensor, **sizes: float) -> None:
    """Write the gradient of :func:`riroi_align_rotated_forward` by its features."""
    (gradient,) = _gradients(_turned(rois, **sizes), (bottom_grad,), top_grad)
    bottom_grad.copy_(gradient)


def roi_align_maxima_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Write the highest sample of each bin of RoIAlign (arXiv 1703.06870), and where it is; 0 without samples."""
    (features,) = _wide(input)
    first, sizes = _corners(rois, spatial_scale, 0.5 if aligned else 0)
    sizes = sizes if aligned else sizes.clamp_min(1)

    def locate(boxes: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        return tuple(_bins(first[boxes, a]) + _bins(sizes[boxes, a]) * part for a, part in enumerate(parts))

    output.zero_()
    argmax_y.fill_(NOWHERE)
    argmax_x.fill_(NOWHERE)
    for boxes, values, y, x in _samples(features, rois[:, 0], sizes, output.shape[2:], sampling_ratio, locate):
        highest, at = values.max(-1, keepdim=True)
        output[boxes] = highest[..., 0].transpose(0, 1).to(output.dtype)
        for target, places in ((argmax_y, y), (argmax_x, x)):
            chosen = places.expand_as(values).gather(-1, at)[..., 0]
            target[boxes] = chosen.transpose(0, 1).to(target.dtype)


def roi_align_maxima_backward(
    grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor
) -> None:
    """Write the gradient of :func:`roi_align_maxima_forward` by its input."""
    image, places = rois[:, 0].long(), _wide(argmax_y, argmax_x)

    def pick(features: Tensor) -> Tensor:
        out = features.new_zeros(grad_output.shape)
        for index in image.unique().tolist():
            boxes = (image == index).nonzero().flatten()
            y, x = (t[boxes].transpose(0, 1).flatten(1, 2) for t in places)
            values = _bilinear(features[index][:, None], y, x)  # every channel has places of its own
            out[boxes] = values[:, 0].unflatten(1, (len(boxes), -1)).transpose(0, 1)
        return out

    (gradient,) = _gradients(pick, (grad_input,), grad_output)
    grad_input.copy_(gradient)


OPS = (
    'deform_roi_pool_forward',
    'deform_roi_pool_backward',
    'roi_align_rotated_forward',
    'roi_align_rotated_backward',
    'riroi_align_rotated_forward',
    'riroi_align_rotated_backward',
)
