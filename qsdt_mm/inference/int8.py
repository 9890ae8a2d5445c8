"""Exact sums of counts by 8-bit convolutions, where this machine has them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qsdt_mm.compat.int8_convolution import float_output, teach_flop_counter

MOST = 127
"""Counts up to this are summed exactly on every instruction set: older ones add pairs of products in 16 bits."""
SIGN = 128
"""The byte that stands for zero where values have a sign."""


teach_flop_counter()


def pack(weight: Tensor, conv_args: dict[str, Any], shape: Sequence[int]) -> tuple[Tensor, ...]:
    """Return a weight of int8 ``(C_out, C_in / groups, kH, kW)`` as the convolution wants it.

    Args:
        weight, conv_args: of the convolution.
        shape: of its input, ``(N, C_in, H, W)``. Others are right, too, but may take ten times as long.
    """
    # Scales of one and no offsets: the sums come out as they are.
    scale, zero = torch.ones(len(weight)), torch.zeros(len(weight), dtype=torch.int)
    args = [list(conv_args[name]) for name in ('stride', 'padding', 'dilation')]
    packed = torch.ops.onednn.qconv_prepack(weight.contiguous(), scale, 1.0, 0, *args, conv_args['groups'], list(shape))
    return packed, scale, zero


def sums(count: Tensor, packed: tuple[Tensor, ...], conv_args: dict[str, Any], signed: bool = False) -> Tensor:
    """Compute ``W n`` in float32, exact up to 2^24, for counts ``(N, C_in, H, W)`` up to :data:`MOST`.

    ``signed``: n may be negative, down to -:data:`MOST`.
    """
    weight, scale, zero = packed
    # By way of int8, which is several times as fast.
    count = count.to(torch.int8, memory_format=torch.channels_last).view(torch.uint8)
    if signed:
        count = count.bitwise_xor_(SIGN)  # n + 128
    args = [list(conv_args[name]) for name in ('stride', 'padding', 'dilation')]
    return torch.ops.onednn.qconv2d_pointwise(
        count,
        1.0,
        SIGN if signed else 0,
        weight,
        scale,
        zero,
        None,
        *args,
        conv_args['groups'],
        1.0,
        0,
        float_output(),
        'none',
        [],
        '',
    )


@lru_cache(maxsize=1)
def is_available() -> bool:
    """Return whether 8-bit convolutions exist and are exact; tried once, on the largest values, plain and depthwise."""
    try:
        for groups in (1, 64):
            weight = torch.full((64, 64 // groups, 3, 3), -128, dtype=torch.int8)
            weight[::2] = 127
            count = torch.full((1, 64, 5, 5), float(MOST))
            args = dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=groups)
            for values, signed in ((count, False), (-count, True)):
                found = sums(values, pack(weight, args, values.shape), args, signed)
                if not torch.equal(found, F.conv2d(values, weight.float(), **args)):
                    return False
    except (AttributeError, RuntimeError, TypeError):  # other machines, other versions of torch
        return False
    return True
