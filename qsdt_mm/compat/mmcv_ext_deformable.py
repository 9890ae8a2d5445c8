"""Deformable ops of :mod:`qsdt_mm.compat.mmcv_ext`: convolutions by torchvision, attention by mmcv's own torch code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

OUTSIDE = 1e6  # px: no map is as large


def widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return half precision as float32: torchvision's kernels do not take it everywhere."""
    return tuple(t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors)


def gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor], gradient: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of ``function(*inputs)`` by its inputs, of which half precision is computed in float32."""
    with torch.enable_grad(), torch.autocast(gradient.device.type, enabled=False):
        leaves = [t.detach().requires_grad_() for t in widen(*inputs)]
        out = function(*leaves)
        return torch.autograd.grad(out, leaves, gradient.to(out.dtype))


def first_values(values: Tensor, size: Sequence[int]) -> Tensor:
    """Return of maps ``(N, C, ...)`` that are larger than the output what the compiled kernel reads of them.

    It takes them for maps of the output's size: their first values, as they lie in memory. mmdet's DyHead hands on
    offsets of the level below.
    """
    if tuple(values.shape[2:]) == tuple(size) or values[0, 0].numel() < size[0] * size[1]:
        return values
    return values.flatten(1)[:, : values.shape[1] * size[0] * size[1]].unflatten(1, (-1, *size))


def within_numbers(offset: Tensor) -> Tensor:
    """Send offsets that are no numbers far outside, where values and gradients are 0, as in the compiled kernel.

    torchvision's kernel on CPUs reads memory that is not the map's at NaN, which ends the process.
    """
    return offset.nan_to_num(nan=OUTSIDE, posinf=OUTSIDE, neginf=-OUTSIDE)


def _convolve(by_axis: dict[str, tuple[int, int]]) -> Callable[..., Tensor]:
    """Return the deformable convolution (arXiv 1703.06211, 1811.11168); groups follow from the shapes."""
    from torchvision.ops import deform_conv2d

    def convolve(
        input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        size = [
            (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for length, kernel, padding, dilation, stride in zip(
                input.shape[2:], weight.shape[2:], by_axis['padding'], by_axis['dilation'], by_axis['stride']
            )
        ]
        mask = None if mask is None else first_values(mask, size)
        offset = within_numbers(first_values(offset, size))
        return deform_conv2d(input, offset, weight, bias, mask=mask, **by_axis)

    return convolve


def _axes(sizes: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return stride, padding and dilation from the names that deform_conv's or modulated_deform_conv's callers use."""
    names = dict(stride=('dH', 'dW'), padding=('padH', 'padW'), dilation=('dilationH', 'dilationW'))
    if 'stride_h' in sizes:
        names = dict(stride=('stride_h', 'stride_w'), padding=('pad_h', 'pad_w'), dilation=('dilation_h', 'dilation_w'))
    return {key: (sizes[height], sizes[width]) for key, (height, width) in names.items()}


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **sizes: Any
) -> None:
    """Write the convolution of ``(N, C, H, W)`` at shifted places into ``output``."""
    output.copy_(_convolve(_axes(sizes))(*widen(input, offset, weight)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **sizes: Any,
) -> None:
    """Write the gradients of :func:`deform_conv_forward` by its input and offsets."""
    convolve, (fixed,) = _convolve(_axes(sizes)), widen(weight)
    by_input, by_offset = gradients(lambda x, o: convolve(x, o, fixed), (input, offset), grad_output)
    grad_input.copy_(by_input)
    grad_offset.copy_(by_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float = 1,
    **sizes: Any,
) -> None:
    """Add ``scale`` times the gradient of :func:`deform_conv_forward` by its weights to ``grad_weight``."""
    convolve, (x, o) = _convolve(_axes(sizes)), widen(input, offset)
    # The value of the weights does not matter to their gradient.
    (by_weight,) = gradients(lambda w: convolve(x, o, w), (grad_weight,), grad_output)
    grad_weight.add_(by_weight.to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool = False,
    **sizes: Any,
) -> None:
    """Write the convolution at shifted places, each weighted by its mask, into ``output``."""
    x, o, w, m, b = widen(input, offset, weight, mask, bias)
    output.copy_(_convolve(_axes(sizes))(x, o, w, m, b if with_bias else None))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool = False,
    **sizes: Any,
) -> None:
    """Write all gradients of :func:`modulated_deform_conv_forward`."""
    inputs = (input, offset, weight, mask, *((bias,) if with_bias else ()))
    found = gradients(_convolve(_axes(sizes)), inputs, grad_output)
    for target, value in zip((grad_input, grad_offset, grad_weight, grad_mask, grad_bias), found):
        target.copy_(value)


def _attend(shapes: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return lambda value, places, weights: multi_scale_deformable_attn_pytorch(value, shapes, places, weights)


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Compute multi-scale deformable attention (arXiv 2010.04159) ``(N, queries, heads * channels)``."""
    with torch.autocast(value.device.type, enabled=False):
        out = _attend(value_spatial_shapes)(*widen(value, sampling_locations, attention_weights))
    return out.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of :func:`ms_deform_attn_forward`."""
    inputs = (value, sampling_locations, attention_weights)
    found = gradients(_attend(value_spatial_shapes), inputs, grad_output)
    for target, computed in zip((grad_value, grad_sampling_loc, grad_attn_weight), found):
        target.copy_(computed)


OPS = (
    'deform_conv_forward',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'modulated_deform_conv_forward',
    'modulated_deform_conv_backward',
    'ms_deform_attn_forward',
    'ms_deform_attn_backward',
)
