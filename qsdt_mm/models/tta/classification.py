"""Views of an image merged into one classification."""

from __future__ import annotations

from mmpretrain.models.tta import AverageClsScoreTTA
from mmpretrain.structures import DataSample


class MeanScoreTTAModel(AverageClsScoreTTA):
    """mmpretrain's mean of scores, whose label too is that of the mean: mmpretrain keeps the first view's.

    Args: those of ``mmpretrain.AverageClsScoreTTA``.

    >>> issubclass(MeanScoreTTAModel, AverageClsScoreTTA)
    True
    """

    def _merge_single_sample(self, data_samples: list[DataSample]) -> DataSample:
        merged = super()._merge_single_sample(data_samples)
        return merged.set_pred_label(merged.pred_score.argmax())
