"""Batch norm in training as one function: of one norm or two in a row, with the border, gain and sum that follow.

The fused function computes what the modules do one after the other, to rounding; it steps aside, and the modules run,
wherever somebody looks at what lies between, or the norms are not plain batch norms that learn from this very batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qsdt_mm.compat.compiling import is_compiling
from qsdt_mm.compat.sharded import is_sharded
from qsdt_mm.compat.tracing import is_counting, is_recording
from qsdt_mm.ops import batch_norm, compact_saving, dispatch, layout

from . import norm_counters


@dataclass(frozen=True)
class Residual:
    """Sum that follows the last norm of a branch: ``shortcut + keep * gain * norm(x)``.

    Args:
        shortcut: ``(N, C, H, W)``.
        gain: layer scale, ``(C,)``; None for none.
        keep: stochastic depth, ``(N, 1, 1, 1)``: 0, or one over the probability to be kept; None for all.

    >>> residual = Residual(torch.ones(1, 2, 1, 1), gain=torch.tensor([0.5, 2.0]))
    >>> residual.add_to(torch.ones(1, 2, 1, 1)).flatten().tolist()
    [1.5, 3.0]
    """

    shortcut: Tensor
    gain: Tensor | None = None
    keep: Tensor | None = None

    def add_to(self, membrane: Tensor) -> Tensor:
        """Compute the sum in plain operations. The gain leaves the membrane's type as it is."""
        if self.gain is not None:
            membrane = (membrane * self.gain.view(1, -1, 1, 1)).to(membrane.dtype)
        return self.shortcut + (membrane if self.keep is None else membrane * self.keep.to(membrane.dtype))


class NormedChain(nn.Sequential):
    """Layers, the last a batch norm. Another norm follows in the unit; the two are computed as one in training.

    >>> NormedChain(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def before_norm(self, spikes: Tensor) -> Tensor:
        """Run all layers but the norm."""
        *layers, _ = self
        for layer in layers:
            spikes = norm_counters.batch_norm(layer, spikes) if isinstance(layer, nn.BatchNorm2d) else layer(spikes)
        return spikes

    def forward(self, spikes: Tensor) -> Tensor:
        return normalise(self[-1], self.before_norm(spikes))


def normalise(norm: nn.Module, membrane: Tensor) -> Tensor:
    """Apply ``norm``; the next layer saves nothing of it for the backward pass, where :func:`can_repeat`."""
    out = norm_counters.batch_norm(norm, membrane)
    if can_repeat(norm):
        compact_saving.register_recompute(out, repeated(norm), membrane)
    return out


def can_repeat(norm: nn.Module) -> bool:
    """Return whether a norm in training can be repeated, and tensors are being saved compactly."""
    # Sharded by itself, it has let its parameters go by now.
    here = type(norm) is nn.BatchNorm2d and not is_sharded(norm.weight)
    return compact_saving.is_compact() and here and norm.training


def repeated(norm: nn.BatchNorm2d) -> Callable[[Tensor], Tensor]:
    """Return the function that repeats the output of a norm in training, without touching its statistics."""
    if getattr(norm, '_is_fsdp_managed_module', False):
        # Whoever asks in the backward pass may be of another part of the network than the one whose parameters are
        # gathered then.
        weight, bias = norm.weight.detach().clone(), norm.bias.detach().clone()
        return lambda membrane: F.batch_norm(membrane, None, None, weight, bias, training=True, eps=norm.eps)
    return partial(repeat, norm)


def repeat(norm: nn.BatchNorm2d, membrane: Tensor) -> Tensor:
    """Repeat the output of a norm in training on a batch, without touching its statistics."""
    return F.batch_norm(membrane, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)


def can_fuse(norms: Sequence[nn.Module], membrane: Tensor) -> bool:
    """Return whether :func:`fused` gives what these norms give of a membrane, one after the other."""
    if is_compiling() or is_recording() or is_counting():
        return False
    wide = torch.float64 if membrane.dtype == torch.float64 else torch.float32
    return (
        type(membrane) is Tensor
        and membrane.dim() == 4
        and membrane.numel() > membrane.shape[1]
        and all(_is_plain(norm, wide) for norm in norms)
    )


def apply_norms(norms: Sequence[nn.Module], membrane: Tensor, residual: Residual | None = None) -> Tensor:
    """Apply norms one after the other, or one or none, then add the residual, if there is one.

    As one function where it :func:`can_fuse` and that saves work: two norms, a gain, kernels. Of a single norm in plain
    operations, torch's own is as fast.
    """
    saves = len(norms) > 1 or (residual is not None and residual.gain is not None)
    if norms and can_fuse(norms, membrane) and (saves or dispatch.find('batch_norm', membrane)):
        return fused(norms, membrane, residual)
    for norm in norms:
        membrane = normalise(norm, membrane)
    return membrane if residual is None else residual.add_to(membrane)


def _is_plain(norm: nn.Module, dtype: torch.dtype) -> bool:
    """Return whether a norm is torch's batch norm, as it is by default, in training, with values of a type."""
    if not norm_counters.may_wait(norm):
        return False
    values = norm.weight, norm.bias, norm.running_mean, norm.running_var
    return all(isinstance(v, Tensor) and type(v) in (Tensor, nn.Parameter) and v.dtype == dtype for v in values)


def fused(
    norms: Sequence[nn.BatchNorm2d], membrane: Tensor, residual: Residual | None = None, padded: bool = False
) -> Tensor:
    """Compute one norm or two in a row, then a residual sum or a border, as one function with one gradient.

    Args:
        norms: one, or two: the second takes what the first gives.
        membrane: ``(N, C, H, W)``.
        residual: what follows; None for nothing.
        padded: whether a border of one pixel follows, which holds what the norm makes of zero by its running
            statistics.
    """
    for norm in norms:
        norm_counters.count_batch(norm)
    first, *others = norms
    second = others[0] if others else None
    residual = residual or Residual(None)
    return _BatchNorm.apply(
        membrane,
        residual.shortcut,
        residual.gain,
        first.weight,
        first.bias,
        second and second.weight,
        second and second.bias,
        residual.keep,
        norms,
        padded,
    )


class _BatchNorm(torch.autograd.Function):
    """:mod:`qsdt_mm.ops.batch_norm` with its gradient; keeps its input and what it measured."""

    @staticmethod
    def forward(ctx, x, shortcut, gain, w1, b1, w2, b2, keep, norms, padded) -> Tensor:
        ctx.norms = batch_norm.Norms(*(batch_norm.Norm.of(norm) for norm in norms))._replace(
            gain=None if gain is None else gain.detach()
        )
        ctx.padded = padded
        # The sum in the same pass, where it leaves the type as it is.
        inside = shortcut is not None and shortcut.dtype == x.dtype
        added = shortcut.detach() if inside else None
        forward = dispatch.find('batch_norm', x) or batch_norm.batch_norm
        out, ctx.constants = forward(x.detach(), ctx.norms, added, keep, padded)
        if padded:
            values = dispatch.find('batch_norm_values', x) or batch_norm.batch_norm_values
            compact_saving.register_recompute(
                out, lambda source, known=ctx.constants: values(source, known, None, None, True), x
            )
        ctx.of_shortcut = shortcut is not None and shortcut.dtype
        ctx.save_for_backward(x, gain, w1, b1, w2, b2, keep)
        return out if shortcut is None or inside else out + shortcut

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, w1, b1, w2, b2, keep = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable(ctx, grad, x, gain, w1, b1, w2, b2, keep)
        # In order here, once: the shortcut hands it on to the norms before, and to sums with the gradients of branches.
        grad = layout.in_memory_format_of(grad, x)
        of_shortcut = grad.to(ctx.of_shortcut) if ctx.of_shortcut else None
        grad = grad.to(x.dtype)
        back = dispatch.find('batch_norm_backward', x, grad) or batch_norm.batch_norm_backward
        of_x, of_channels = back(grad, x, ctx.constants, ctx.norms, keep, ctx.padded)
        of_w1, of_b1, of_w2, of_b2, of_gain = of_channels[:5]
        second = None if w2 is None else of_w2, None if b2 is None else of_b2
        return of_x, of_shortcut, None if gain is None else of_gain, of_w1, of_b1, *second, None, None, None


def _differentiable(ctx, grad, x, gain, w1, b1, w2, b2, keep) -> tuple[Tensor | None, ...]:
    """Compute the gradients by operations that have gradients themselves."""
    first, second, _ = ctx.norms
    shortcut = torch.zeros_like(x, dtype=ctx.of_shortcut, requires_grad=True) if ctx.of_shortcut else None
    out = F.batch_norm(x, None, None, w1, b1, True, eps=first.eps)
    if second is not None:
        out = F.batch_norm(out, None, None, w2, b2, True, eps=second.eps)
    if ctx.padded:
        border = (b1 - ctx.constants.values[batch_norm.RUNNING] * w1).to(out.dtype).view(1, -1, 1, 1)
        out = F.pad(out - border, (1, 1, 1, 1)) + border
    if gain is not None:
        out = (out * gain.view(1, -1, 1, 1)).to(out.dtype)
    if keep is not None:
        out = out * keep
    if shortcut is not None:
        out = shortcut + out
    inputs = [x, shortcut, gain, w1, b1, w2, b2]
    learned = [i for i, value in enumerate(inputs) if value is not None and value.requires_grad]
    found = torch.autograd.grad(out, [inputs[i] for i in learned], grad, create_graph=True, allow_unused=True)
    gradients = dict(zip(learned, found))
    return *(gradients.get(i) for i in range(len(inputs))), None, None, None
