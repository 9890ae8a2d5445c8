"""Pictures of predictions for frames of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmpretrain.engine.hooks import VisualizationHook
from mmpretrain.structures import DataSample

from qsdt_mm.visualization.figures import event_picture

GAP = 2  # pixels between frames
HEIGHT = 200  # of a picture, at least, so that what is written on it can be read


class EventVisualizationHook(VisualizationHook):
    """mmpretrain's hook for frames of events: the T frames stand side by side, brighter red and darker blue.

    Args: those of ``mmpretrain.engine.hooks.VisualizationHook``.
    """

    def _draw_samples(
        self, batch_idx: int, data_batch: Mapping[str, Any], data_samples: Sequence[DataSample], step: int = 0
    ) -> None:
        if self.enable:
            pictures = [contact_sheet(frames) for frames in data_batch['inputs']]
            super()._draw_samples(batch_idx, dict(data_batch, inputs=pictures), data_samples, step)


def contact_sheet(frames: torch.Tensor) -> torch.Tensor:
    """Frames ``(T, 2, H, W)`` as one picture, ``(3, H', W')``, 0 to 255: one scale for all, small ones magnified."""
    frames = frames.cpu().float()
    most = frames.max().item()
    pictures = [torch.from_numpy(event_picture(frame.numpy(), most)).permute(2, 0, 1) for frame in frames]
    times = -(-HEIGHT // frames.shape[2])
    pictures = [picture.repeat_interleave(times, 1).repeat_interleave(times, 2) for picture in pictures]
    gap = torch.zeros(3, pictures[0].shape[1], GAP)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return (torch.cat(parts, dim=2) * 255).round()
