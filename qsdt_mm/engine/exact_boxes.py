"""Boxes in full precision under mixed precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

HALF = (torch.float16, torch.bfloat16)


def keep_boxes_exact(model: nn.Module) -> None:
    """Let a detector's RoI extractors read maps of half precision as float32.

    They cast the boxes to the type of the maps: in bfloat16 a coordinate from 128 on is a whole number, and from 512 on
    a multiple of four.

    >>> from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
    >>> align = dict(type='RoIAlign', output_size=1, sampling_ratio=1)
    >>> extractor = SingleRoIExtractor(align, out_channels=1, featmap_strides=[1])
    >>> keep_boxes_exact(extractor)
    >>> ramp = torch.arange(256.0).expand(1, 1, 2, 256).bfloat16()
    >>> extractor((ramp,), torch.tensor([[0.0, 130.25, 0.0, 131.25, 1.0]])).item()
    130.25
    """
    for module in model.modules():
        if any(kind.__name__ == 'BaseRoIExtractor' for kind in type(module).__mro__):  # mmdet may not be installed
            module.register_forward_pre_hook(_widen_maps, with_kwargs=True)


def _widen_maps(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    def widen(value: Any) -> Any:
        is_maps = isinstance(value, (tuple, list)) and all(isinstance(part, Tensor) for part in value)
        return tuple(part.float() if part.dtype in HALF else part for part in value) if is_maps else value

    return tuple(map(widen, args)), {name: widen(value) for name, value in kwargs.items()}
