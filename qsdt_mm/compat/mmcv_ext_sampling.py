"""Ops of :mod:`qsdt_mm.compat.mmcv_ext` that gather places of a map: CARAFE, RoI pooling, masked convolution, PSA."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _taps(features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> tuple[Tensor, ...]:
    """Return padded features ``(N, groups, C / groups, h', w')`` and masks ``(N, groups, k * k, h, s, w, s)``."""
    n, c, h, w = features.shape
    padded = functional.pad(_wide(features), [kernel_size // 2] * 4)
    padded = padded.view(n, group_size, c // group_size, *padded.shape[2:])
    return padded, _wide(masks).reshape(n, group_size, kernel_size**2, h, scale_factor, w, scale_factor)


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Write CARAFE (arXiv 1905.02188): each output place is a masked sum of the k x k places around its source.

    Args:
        features: ``(N, C, h, w)``.
        masks: ``(N, groups * k * k, s * h, s * w)``.
        output: ``(N, C, s * h, s * w)``, filled.
    """
    padded, weights = _taps(features, masks, kernel_size, group_size, scale_factor)
    h, w = features.shape[2:]
    total = 0
    for tap in range(kernel_size**2):  # one after the other: all patches at once take k * k times the memory
        y, x = divmod(tap, kernel_size)
        total = total + padded[:, :, :, y : y + h, None, x : x + w, None] * weights[:, :, None, tap]
    output.copy_(total.reshape(output.shape))


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of :func:`carafe_naive_forward`."""
    padded, weights = _taps(features, masks, kernel_size, group_size, scale_factor)
    n, c, h, w = features.shape
    gradient = _wide(grad_output).reshape(n, group_size, c // group_size, h, scale_factor, w, scale_factor)
    by_padded, by_weights = torch.zeros_like(padded), torch.empty_like(weights)
    for tap in range(kernel_size**2):
        y, x = divmod(tap, kernel_size)
        by_padded[:, :, :, y : y + h, x : x + w] += (gradient * weights[:, :, None, tap]).sum((4, 6))
        by_weights[:, :, tap] = (gradient * padded[:, :, :, y : y + h, None, x : x + w, None]).sum(2)
    edge = kernel_size // 2
    grad_input.copy_(by_padded[..., edge : edge + h, edge : edge + w].reshape(grad_input.shape))
    grad_masks.copy_(by_weights.reshape(grad_masks.shape))


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write what :func:`carafe_naive_forward` does; ``rfeatures`` keeps the features for the gradient."""
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of :func:`carafe_forward`."""
    carafe_naive_backward(grad_output, rfeatures, masks, grad_input, grad_masks, kernel_size, group_size, scale_factor)


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the maxima of each bin of each RoI (arXiv 1504.08083) and where they are, -1 for an empty bin.

    Bins are not rounded to whole places before they are divided, as torchvision's are: they begin at the floor and end
    at the ceiling of ``start + i * size / bins``, where the end of a RoI is ``(x2 + 1) * spatial_scale``.
    """
    features, boxes = _wide(input), _wide(rois)
    height, width = features.shape[2:]
    starts, ends = boxes[:, 1:3] * spatial_scale, (boxes[:, 3:] + 1) * spatial_scale
    limits = []
    for axis, (bins, size) in enumerate([(pooled_width, width), (pooled_height, height)]):
        start, length = starts[:, axis, None], (ends - starts)[:, axis, None]
        edges = torch.arange(bins + 1, device=boxes.device, dtype=boxes.dtype) * (length / bins) + start
        low, high = edges[:, :-1].floor().clamp(0, size).long(), edges[:, 1:].ceil().clamp(0, size).long()
        places = torch.arange(size, device=boxes.device)
        limits.append((places >= low[..., None]) & (places < high[..., None]) & (length > 0)[..., None])
    in_x, in_y = limits  # (R, bins, size): empty for a RoI without area
    output.zero_()
    argmax.fill_(-1)
    used_x, used_y = in_x.any(1), in_y.any(1)
    for r, image in enumerate(boxes[:, 0].long().tolist()):
        columns, rows = used_x[r].nonzero().flatten(), used_y[r].nonzero().flatten()
        if not len(columns) or not len(rows):
            continue
        crop = features[image][:, rows][:, :, columns]
        by_x, at_x = crop[:, None].masked_fill(~in_x[r][:, columns][None, :, None], -torch.inf).max(-1)  # (C, w, rows)
        by_y, at_y = by_x[:, None].masked_fill(~in_y[r][:, rows][None, :, None], -torch.inf).max(-1)  # (C, h, w)
        at_x = at_x[:, None].expand(-1, pooled_height, -1, -1).gather(-1, at_y[..., None])[..., 0]
        filled = in_y[r].any(1)[:, None] & in_x[r].any(1)
        output[r] = torch.where(filled, by_y, 0).to(output.dtype)
        argmax[r] = torch.where(filled, rows[at_y] * width + columns[at_x], -1).to(argmax.dtype)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the gradient of :func:`roi_pool_forward` by its input."""
    _, channels, height, width = grad_input.shape
    image = rois[:, 0].long().view(-1, 1, 1, 1) * channels + torch.arange(channels, device=rois.device).view(-1, 1, 1)
    place, gradient = argmax.long(), _wide(grad_output)
    total = torch.zeros(grad_input.numel(), dtype=gradient.dtype, device=gradient.device)
    index = (image * height * width + place.clamp_min(0)).flatten()
    grad_input.copy_(total.index_add_(0, index, (gradient * (place >= 0)).flatten()).view(grad_input.shape))


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Write the patches of the places in the mask of one image into ``col``, ``(C * kernel_h * kernel_w, places)``."""
    # A mask may reach beyond the last patch: nothing is there.
    padded = functional.pad(im[0], [pad_w, pad_w + kernel_w, pad_h, pad_h + kernel_h])
    rows = mask_h_idx.long() + torch.arange(kernel_h, device=im.device).view(-1, 1, 1)
    columns = mask_w_idx.long() + torch.arange(kernel_w, device=im.device).view(-1, 1)
    col.copy_(padded[:, rows, columns].reshape(col.shape))


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, height: int, width: int, channels: int
) -> None:
    """Write ``(channels, places)`` to these places of one image."""
    im[0][:, mask_h_idx.long(), mask_w_idx.long()] = col.to(im.dtype)


def _psa_places(
    h_feature: int, w_feature: int, h_mask: int, w_mask: int, half_h_mask: int, half_w_mask: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the mask's channel that joins places ``(y x, h, w)``, and whether the mask reaches that far."""
    ys, xs = torch.arange(h_feature, device=device), torch.arange(w_feature, device=device)
    i = (ys[:, None] - ys + half_h_mask)[:, None, :, None]
    j = (xs[:, None] - xs + half_w_mask)[None, :, None, :]
    reached = (i >= 0) & (i < h_mask) & (j >= 0) & (j < w_mask)
    channel = (i * w_mask + j).where(reached, 0)
    return channel.flatten(0, 1), reached.flatten(0, 1)


def psamask_forward(input: Tensor, output: Tensor, psa_type: int, num_: int, **sizes: int) -> None:
    """Write point-wise attention (PSANet, ECCV 2018) over all places from masks around each.

    Args:
        input: ``(N, h_mask * w_mask, h, w)``.
        output: ``(N, h * w, h, w)``, filled: what place ``(h, w)`` collects from each other, or the transpose.
        psa_type: 0 collects, 1 distributes.
        num_: N.
        sizes: ``h_feature``, ``w_feature``, ``h_mask``, ``w_mask`` and halves of the latter.
    """
    channel, reached = _psa_places(**sizes, device=input.device)
    whole = input.gather(1, channel.expand(num_, -1, -1, -1)).where(reached, 0)
    if psa_type == 1:
        whole = whole.flatten(2).transpose(1, 2)
    output.copy_(whole.reshape(output.shape))


def psamask_backward(grad_output: Tensor, grad_input: Tensor, psa_type: int, num_: int, **sizes: int) -> None:
    """Write the gradient of :func:`psamask_forward`."""
    channel, reached = _psa_places(**sizes, device=grad_output.device)
    gradient = grad_output
    if psa_type == 1:
        gradient = gradient.flatten(2).transpose(1, 2).reshape(gradient.shape)
    # Each channel of a place is read at most once, so that nothing is summed.
    grad_input.zero_().scatter_add_(1, channel.expand(num_, -1, -1, -1), gradient.where(reached, 0))


OPS = (
    'carafe_forward',
    'carafe_backward',
    'carafe_naive_forward',
    'carafe_naive_backward',
    'roi_pool_forward',
    'roi_pool_backward',
    'masked_im2col_forward',
    'masked_col2im_forward',
    'psamask_forward',
    'psamask_backward',
)
