"""Memory layout of feature maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qsdt_mm.compat.autocast import autocast_dtype
from qsdt_mm.compat.compiling import is_compiling
from qsdt_mm.compat.renamed import refuse_old_names
from qsdt_mm.compat.tracing import is_recording

__getattr__ = refuse_old_names(__name__, 'settle')

PLAIN = (Tensor, nn.Parameter)
"""Types of tensors whose memory can be looked at: subclasses (fake or distributed ones) may have none of their own."""


def to_preferred_memory_format(feature: Tensor) -> Tensor:
    """Lay out a feature map ``(N, C, H, W)`` as its device's convolutions prefer.

    With channels last on a CPU and, in half precision, on a CUDA device, whose matrix units read them so.
    """
    if feature.dim() == 4 and prefers_channels_last(feature.device, feature.dtype):
        return feature.contiguous(memory_format=torch.channels_last)
    return feature


def prefers_channels_last(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether convolutions of values of a type are faster with channels last, under the autocast of now."""
    if device.type != 'cuda':
        return device.type == 'cpu'
    return (dtype if dtype == torch.float64 else autocast_dtype(device) or dtype) in (torch.float16, torch.bfloat16)


def to_memory_format_of(feature: Tensor, other: Tensor) -> Tensor:
    """Apply :func:`to_preferred_memory_format`, if another feature map is in that order."""
    channels_last = other.dim() == 4 and other.is_contiguous(memory_format=torch.channels_last)
    return to_preferred_memory_format(feature) if channels_last else feature


def in_memory_format_of(feature: Tensor, image: Tensor) -> Tensor:
    """Return a feature map with channels last if the image has them so and is not contiguous, otherwise contiguous."""
    channels_last = image.dim() == 4 and image.stride(1) == 1 and not image.is_contiguous()
    return feature.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def is_faster_in_float32(feature: Tensor, weight: Tensor) -> bool:
    """Return whether training runs a depthwise convolution faster in float32 than in the half precision of autocast.

    Gradients of large depthwise kernels do on CPUs, two to four times, those of 3 x 3 do not.
    """
    return (
        feature.device.type == 'cpu'
        and weight.shape[1] == 1
        and max(weight.shape[2:]) > 3
        and torch.is_grad_enabled()
        and weight.requires_grad
        and autocast_dtype(feature.device) in (torch.bfloat16, torch.float16)
        and feature.dtype != torch.float64
        and not is_compiling()
        and not is_recording()
    )


def dense(tensor: Tensor, rows_first: bool = False) -> Tensor:
    """Return the tensor if it fills its memory without gaps, else a copy that does.

    Args:
        tensor: any strides.
        rows_first: whether each ``tensor[i]`` has to be one stretch of memory, in order.
    """
    if tensor.is_contiguous():
        return tensor
    if rows_first and tensor.stride(0) * tensor.shape[0] != tensor.numel():
        return tensor.contiguous()
    return laid_out(tensor, torch.empty_like(tensor))


def laid_out(tensor: Tensor, model: Tensor) -> Tensor:
    """Return the tensor with the strides of ``model``, which is dense and has the same shape."""
    if tensor.stride() == model.stride():
        return tensor
    return torch.empty_like(model, dtype=tensor.dtype).copy_(tensor)
