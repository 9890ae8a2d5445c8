"""Batch norm on the statistics of a batch: one norm or two in a row, and what follows, in plain operations of torch.

``y = shortcut + keep * (f * (x - m) / sqrt(v + e1) + b)`` for each channel, with m, v the mean and variance over
``(N, H, W)``. Of one norm, ``f = gain * w1, b = gain * b1``. A norm of a norm sees mean b1 and variance ``w1^2 s``,
with ``s = v / (v + e1)``; so of two ``f = gain * w2 w1 / sqrt(w1^2 s + e2), b = gain * b2``, and b1 has no effect.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MEAN, VAR, SLOPE, SHIFT, EDGE, RUNNING, FACTOR = range(7)
"""Rows of :class:`Constants`: m; v; ``f / sqrt(v + e1)``; b; what the border holds; ``running mean / deviation``; f."""
OF_W1, OF_B1, OF_W2, OF_B2, OF_GAIN = range(5)
"""Rows of the gradients that :func:`batch_norm_backward` returns."""


class Norm(NamedTuple):
    """One norm: its parameters and running statistics, ``(C,)`` each, and its constants.

    >>> Norm.of(torch.nn.BatchNorm2d(2)).eps
    1e-05
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps: float
    momentum: float

    @classmethod
    def of(cls, module: torch.nn.BatchNorm2d) -> Norm:
        """Read them from torch's module."""
        values = module.weight.detach(), module.bias.detach(), module.running_mean, module.running_var
        return cls(*values, module.eps, module.momentum)


class Norms(NamedTuple):
    """Norm, the norm that follows it, and the gain ``(C,)`` that follows them; None for none.

    >>> Norms(Norm.of(torch.nn.BatchNorm2d(2))).second is None
    True
    """

    first: Norm
    second: Norm | None = None
    gain: Tensor | None = None

    def seen(self, var: Tensor) -> Tensor:
        """Compute ``w1^2 s``, the variance that the second norm sees."""
        return self.first.weight.square() * (var / (var + self.first.eps))

    def root(self, var: Tensor) -> Tensor:
        """Compute ``1 / sqrt(w1^2 s + e2)``."""
        return (self.seen(var) + self.second.eps).rsqrt()

    def factor_and_shift(self, var: Tensor) -> tuple[Tensor, Tensor]:
        """Compute f and b, but for the gain."""
        if self.second is None:
            return self.first.weight, self.first.bias
        return self.second.weight * self.first.weight * self.root(var), self.second.bias


class Constants(NamedTuple):
    """Constants that a batch and its norms come to, for each channel.

    Args:
        values: ``(7, C)``: rows :data:`MEAN` to :data:`FACTOR`.
        eps: e1.

    >>> Constants(torch.full((7, 1), 3.0), 1.0).inverse
    tensor([0.5000])
    """

    values: Tensor
    eps: float

    @property
    def inverse(self) -> Tensor:
        """Compute ``1 / sqrt(v + e1)``."""
        return (self.values[VAR] + self.eps).rsqrt()


def batch_norm(
    x: Tensor, norms: Norms, shortcut: Tensor | None = None, keep: Tensor | None = None, padded: bool = False
) -> tuple[Tensor, Constants]:
    """Compute the output, and move the running statistics.

    Args:
        x: ``(N, C, H, W)``, of float32, float64 or half precision; all values of channels are float32 or float64.
        norms: one or two, and their gain.
        shortcut: ``(N, C, H, W)``, is added; None for none.
        keep: ``(N, 1, 1, 1)``, multiplies; None for 1.
        padded: whether a border of one pixel surrounds the output: what the norm, by the running statistics that it has
            then, makes of zero.

    Returns:
        Output, of the type of x; and what :func:`batch_norm_values` and :func:`batch_norm_backward` need.
    """
    first, second, gain = norms
    mean, var = torch.batch_norm_update_stats(x, first.running_mean, first.running_var, first.momentum)
    if second is not None:
        n = x.numel() // x.shape[1]
        second.running_mean.lerp_(first.bias, second.momentum)
        second.running_var.lerp_(norms.seen(var) * (n / (n - 1)), second.momentum)
    factor, shift = norms.factor_and_shift(var)
    if gain is not None:
        factor, shift = factor * gain, shift * gain
    edge = running = mean
    if padded:
        running = first.running_mean * (first.running_var + first.eps).rsqrt()
        edge = first.bias - running * first.weight
    constants = Constants(torch.stack([mean, var, mean, shift, edge, running, factor]), first.eps)
    return batch_norm_values(x, constants, shortcut, keep, padded), constants


def batch_norm_values(
    x: Tensor, constants: Constants, shortcut: Tensor | None = None, keep: Tensor | None = None, padded: bool = False
) -> Tensor:
    """Compute the output of :func:`batch_norm` again, bit for bit, from constants that are known."""
    mean, var, _, shift, edge, _, factor = constants.values
    out = F.batch_norm(x, mean, var, factor, shift, False, 0.0, constants.eps)
    if padded:
        out = framed(out, edge)
    if keep is not None:
        out.mul_(keep)
    return out if shortcut is None else out.add_(shortcut)


def framed(inner: Tensor, edge: Tensor) -> Tensor:
    """Put a border of one pixel, ``(C,)``, around ``(N, C, H, W)``."""
    n, c, h, w = inner.shape
    last = inner.is_contiguous(memory_format=torch.channels_last) and not inner.is_contiguous()
    order = torch.channels_last if last else torch.contiguous_format
    out = torch.empty(n, c, h + 2, w + 2, dtype=inner.dtype, device=inner.device, memory_format=order)
    out[:, :, 1:-1, 1:-1] = inner
    for side in (out[:, :, :1], out[:, :, -1:], out[:, :, :, :1], out[:, :, :, -1:]):
        side.copy_(edge.view(1, -1, 1, 1))
    return out


def batch_norm_backward(
    grad: Tensor, x: Tensor, constants: Constants, norms: Norms, keep: Tensor | None = None, padded: bool = False
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of x, and of weights, biases and gain, from that of the output.

    Of a second norm: ``r = 1 / sqrt(w1^2 s + e2)``, ``df/dr = w2 w1``, ``dr/dw1 = -r^3 w1 s``,
    ``dr/dv = -r^3 / 2 w1^2 e1 / (v + e1)^2``, ``dv/dx = 2 (x - m) / n``.

    Returns:
        Gradient of x, and ``(5, C)``: rows :data:`OF_W1` to :data:`OF_GAIN`; of what is not there, of no meaning.
    """
    first, second, gain = norms
    mean, var, _, _, _, running, weight = constants.values
    of_edge = 0.0
    if padded:
        sides = grad[:, :, :1], grad[:, :, -1:], grad[:, :, 1:-1, :1], grad[:, :, 1:-1, -1:]
        of_edge = sum(side.sum((0, 2, 3), dtype=mean.dtype) for side in sides)
        grad = grad[:, :, 1:-1, 1:-1]
    if keep is not None:
        grad = grad * keep.to(grad.dtype)
    order = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    inverse = constants.inverse
    of_x, of_factor, of_shift = torch.ops.aten.native_batch_norm_backward(
        grad.contiguous(memory_format=order), x, weight, None, None, mean, inverse, True, first.eps, [True, True, True]
    )
    of_gain = of_factor
    if gain is not None:
        factor, shift = norms.factor_and_shift(var)
        of_gain = of_factor * factor + of_shift * shift
        of_factor, of_shift = of_factor * gain, of_shift * gain
    if second is None:
        of_w1, of_b1 = of_factor - of_edge * running, of_shift + of_edge
        return of_x, torch.stack([of_w1, of_b1, of_w1, of_b1, of_gain])
    root = norms.root(var)
    of_root = of_factor * second.weight * first.weight * root**3
    of_w1 = of_factor * second.weight * root - of_root * first.weight * (var / (var + first.eps))
    of_var = -0.5 * of_root * first.weight.square() * first.eps * inverse**4
    slope = (of_var * (2 * x.shape[1] / x.numel())).view(1, -1, 1, 1)
    of_x.addcmul_(x, slope.to(x.dtype)).sub_((slope * mean.view(1, -1, 1, 1)).to(x.dtype))
    of_w2 = of_factor * first.weight * root
    return of_x, torch.stack([of_w1, torch.zeros_like(of_w1), of_w2, of_shift, of_gain])
