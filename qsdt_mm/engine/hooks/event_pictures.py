"""Pictures of predictions for frames of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmpretrain.engine.hooks import VisualizationHook
from mmpretrain.structures import DataSample

from qsdt_mm.compat.renamed import refuse_old_names
from qsdt_mm.visualization.events import contact_sheet

__getattr__ = refuse_old_names(__name__, 'strip')


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
