"""Arguments that make an 8-bit convolution return float32 sums, by version of torch."""

from __future__ import annotations

import contextlib
import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@lru_cache(maxsize=1)
def float_output() -> torch.dtype | bool:
    """Return the argument after ``output_zero_point`` of ``qconv2d_pointwise``: a dtype, in torch 2.1 a flag."""
    names = [argument.name for argument in torch.ops.onednn.qconv2d_pointwise.default._schema.arguments]
    return True if 'fp32_output' in names else torch.float32


def teach_flop_counter() -> None:
    """Tell ``torch.utils.flop_counter`` what an 8-bit convolution does, of which it would count nothing."""
    with contextlib.suppress(AttributeError, ImportError, RuntimeError, TypeError):  # none here; or it knows
        from torch.utils.flop_counter import register_flop_formula

        @register_flop_formula(torch.ops.onednn.qconv2d_pointwise, get_raw=True)
        def flops(*args: Any, out_val: Tensor, **_: Any) -> int:
            return 2 * out_val.numel() * math.prod(args[3].shape[1:])
