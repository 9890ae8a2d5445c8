"""The gradient of a depthwise convolution's weight, in plain operations of torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Window(NamedTuple):
    """Kernel of a convolution and how it moves, in pixels: height, then width.

    >>> Window((3, 3), stride=(2, 2), padding=(1, 1)).size_of(7, 8)
    (4, 4)
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the output for an input of a size."""
        return tuple(
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip((height, width), *self)
        )


def depthwise_weight_grad(grad: Tensor, x: Tensor, window: Window) -> Tensor:
    """Compute the gradient of the weight ``(C, 1, K_h, K_w)`` of a depthwise convolution.

    ``dw[c, i, j] = sum of grad[n, c, y, x] * in[n, c, s y - p + d i, s x - p + d j] over n, y, x``, all inside;
    summed in float32 at least, and rounded to the type of the input once.

    Args:
        grad: of the output, ``(N, C, H', W')``.
        x: the input, ``(N, C, H, W)``, of the same type.
        window: the kernel.
    """
    channels = x.shape[1]
    wide = torch.promote_types(x.dtype, torch.float32)
    weight = x.new_empty(channels, 1, *window.kernel_size, dtype=wide)  # only its shape counts
    _, of_weight, _ = torch.ops.aten.convolution_backward(
        grad.to(wide), x.to(wide), weight, None, *window[1:], False, (0, 0), channels, (False, True, False)
    )
    return of_weight.to(x.dtype)
