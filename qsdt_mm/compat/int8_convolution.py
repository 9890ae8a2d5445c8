"""How versions of torch are told that an 8-bit convolution gives sums in float32."""

from __future__ import annotations

from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def float_output() -> torch.dtype | bool:
    """The argument after ``output_zero_point`` of ``onednn::qconv2d_pointwise``: a dtype, in torch 2.1 a flag."""
    names = [argument.name for argument in torch.ops.onednn.qconv2d_pointwise.default._schema.arguments]
    return True if 'fp32_output' in names else torch.float32
