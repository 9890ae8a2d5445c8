"""The LSQ quantizer, forward and backward, in plain operations of torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Smallest step that divides safely in every floating dtype in use; a learned step is kept at or above it.
MIN_STEP = 1e-6


def quantize(weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Quantize the weight."""
    step = step.view(-1, *[1] * (weight.dim() - 1))
    return (weight / step).clamp_(low, high).round_().mul(step)


def quantize_backward(grad: Tensor, weight: Tensor, step: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Compute gradients of the weight and of the steps."""
    ratio = weight / step.view(-1, *[1] * (weight.dim() - 1))
    clipped = ratio.clamp(low, high)
    # Ones and zeros of the weight's type: comparisons that make booleans and products of two types are slow on CPUs.
    inside = torch.eq(clipped.detach(), ratio.detach(), out=torch.empty_like(ratio))
    # d w_q / d step = round(w/step) - w/step inside the range, the bound itself outside.
    slope = clipped.round_().addcmul_(ratio, inside, value=-1)
    scale = 1 / math.sqrt(weight.numel() * high)
    return inside.mul_(grad), slope.mul_(grad).flatten(1).sum(1) * scale
