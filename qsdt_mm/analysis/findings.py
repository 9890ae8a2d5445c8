"""Findings of a network in a picture, in plain values that JSON holds, for any task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

TOP = 5  # classes of a picture that are listed


def findings(sample: Any, classes: Sequence[str] | None = None, score_thr: float = 0.0) -> dict[str, Any]:
    """Return a prediction of mmpretrain, mmdet or mmseg in plain values.

    Args:
        sample: the prediction, a data sample.
        classes: names; without them labels stay numbers.
        score_thr: lowest score of a detection that is listed.

    Returns:
        ``classes``: the five best, by score (mmpretrain); ``detections``: with ``bbox`` (left, top, right, bottom in
        pixels of the picture) and, if there is one, ``mask`` (COCO's run lengths), by score (mmdet); ``pixels``: how
        many each class has (mmseg).
    """
    if 'pred_score' in sample:
        scores = sample.pred_score.flatten().cpu()
        best = scores.topk(min(TOP, len(scores)))
        pairs = zip(best.indices.tolist(), best.values.tolist())
        return dict(classes=[dict(_named(label, classes), score=score) for label, score in pairs])
    if 'pred_instances' in sample:
        found = sample.pred_instances.cpu()
        rows = [i for i in found.scores.argsort(descending=True).tolist() if found.scores[i] >= score_thr]
        return dict(detections=[_detection(found, i, classes) for i in rows])
    if 'pred_sem_seg' in sample:
        labels, counts = torch.unique(sample.pred_sem_seg.data.cpu(), return_counts=True)
        pairs = zip(labels.tolist(), counts.tolist())
        return dict(pixels=[dict(_named(label, classes), pixels=count) for label, count in pairs])
    return {}


def label_map(sample: Any) -> np.ndarray | None:
    """Return the class of each pixel as bytes ``(H, W)``, where a prediction of mmseg has at most 256 classes."""
    if 'pred_sem_seg' not in sample:
        return None
    labels = sample.pred_sem_seg.data[0].cpu().numpy()
    return labels.astype(np.uint8) if labels.max() < 256 else None


def _named(label: int, classes: Sequence[str] | None) -> dict[str, Any]:
    return dict(label=label, name=str(classes[label])) if classes and label < len(classes) else dict(label=label)


def _detection(found: Any, i: int, classes: Sequence[str] | None) -> dict[str, Any]:
    row = dict(_named(int(found.labels[i]), classes), score=float(found.scores[i]))
    row['bbox'] = [round(value, 2) for value in found.bboxes[i].tolist()]
    if 'masks' in found:
        from pycocotools import mask as coco_mask

        pixels = np.asfortranarray(np.asarray(found.masks[i]), dtype=np.uint8)
        runs = coco_mask.encode(pixels)
        row['mask'] = dict(size=list(runs['size']), counts=runs['counts'].decode('ascii'))
    return row
