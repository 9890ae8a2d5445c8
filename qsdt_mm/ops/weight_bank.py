"""The LSQ quantizer for many layers at once, forward and backward, in plain operations of torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .lsq import MIN_STEP, quantize_backward

ALIGNMENT = 64
"""Elements at whose multiples a layer's part of the common buffer starts, as convolutions on a GPU want it."""


def starts_of(weights: Sequence[Tensor]) -> list[int]:
    """Return where each weight starts in a common buffer, and, last, how long that is."""
    starts = [0]
    for weight in weights:
        starts.append(starts[-1] + -(-weight.numel() // ALIGNMENT) * ALIGNMENT)
    return starts


def parts_of(flat: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """View a common buffer as tensors of the weights' shapes."""
    return [flat[start : start + w.numel()].view(w.shape) for start, w in zip(starts_of(weights), weights)]


def quantize_many(
    weights: Sequence[Tensor],
    steps: Sequence[Tensor | None],
    ranges: Sequence[tuple[int, int]],
    dtype: torch.dtype,
) -> Tensor:
    """Quantize the weights of many layers into one buffer, in which :func:`parts_of` finds them.

    Args:
        weights: ``(C_out, ...)`` each, contiguous; or a bias, ``(C_out,)``, without steps.
        steps: ``(C_out,)`` each, as learned: their magnitudes count. None casts a weight, and nothing else.
        ranges: lowest and highest integer of each.
        dtype: of the result.
    """
    flat = weights[0].new_empty(starts_of(weights)[-1], dtype=dtype)
    for part, weight, step, (low, high) in zip(parts_of(flat, weights), weights, steps, ranges):
        if step is None:
            part.copy_(weight)
            continue
        step = step.abs().clamp_min_(MIN_STEP).view(-1, *[1] * (weight.dim() - 1))
        exact = part if dtype == weight.dtype else torch.empty_like(weight)
        torch.div(weight, step, out=exact).clamp_(low, high).round_().mul_(step)
        if exact is not part:
            part.copy_(exact)
    return flat


def quantize_many_backward(
    grads: Sequence[Tensor],
    weights: Sequence[Tensor | None],
    steps: Sequence[Tensor | None],
    ranges: Sequence[tuple[int, int]],
    dtype: torch.dtype,
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Compute gradients of the weights and of the learned steps of :func:`quantize_many`.

    Args:
        grads: of each layer's part.
        weights, steps, ranges: as above; a weight without steps is not needed, and may be None.
        dtype: of weights and steps, and of the result.
    """
    of_weights, of_steps = [], []
    for grad, weight, step, (low, high) in zip(grads, weights, steps, ranges):
        grad = grad.to(dtype)
        if step is None:
            of_weights.append(grad)
            of_steps.append(None)
            continue
        of_weight, of_step = quantize_backward(grad, weight, step.abs().clamp_min_(MIN_STEP), low, high)
        of_weights.append(of_weight)
        of_steps.append(of_step.mul_(step.sgn()))
    return of_weights, of_steps
