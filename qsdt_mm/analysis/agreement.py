"""Predictions of a network of any task, as tensors, and how often those of two networks agree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qsdt_mm.compat.renamed import refuse_old_names

__getattr__ = refuse_old_names(__name__, 'answers')

SAME_BOX = 0.9  # IoU from which two networks found the same object
LIKELY = 0.3  # score from which a detection counts


@torch.no_grad()
def predictions(model: nn.Module, data: dict[str, Any]) -> list[dict[str, Tensor]]:
    """Return a model's prediction for each image of a batch that its data preprocessor has made.

    Returns:
        For each image ``logits`` (a classifier's), ``map`` of class scores (mmseg's), or ``bboxes``, ``scores``,
        ``labels`` and, if there are any, ``masks`` (mmdet's).
    """
    samples = model(**data, mode='predict')
    if hasattr(samples[0], 'pred_instances'):
        return [dict(sample.pred_instances.items()) for sample in samples]
    if hasattr(samples[0], 'seg_logits'):
        return [dict(map=sample.seg_logits.data) for sample in samples]
    return [dict(logits=row) for row in model(data['inputs'], mode='tensor')]


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Return whether two predictions are equal, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def agreement(one: dict[str, Tensor], other: dict[str, Tensor]) -> tuple[int, int, str]:
    """Count the decisions of ``one`` that the other prediction shares; return also their number and their kind.

    The class of an image; the class of each pixel; each detection of score 0.3 or more, which the other has with the
    same label and a box of IoU 0.9 or more.
    """
    if 'logits' in one:
        return int(one['logits'].argmax() == other['logits'].argmax()), 1, 'top-1'
    if 'map' in one:
        same = _classes(one['map']) == _classes(other['map'])
        return int(same.sum()), same.numel(), 'pixels'
    from torchvision.ops import box_iou

    likely = one['scores'] >= LIKELY
    found = (box_iou(one['bboxes'][likely], other['bboxes']) >= SAME_BOX) & (
        one['labels'][likely][:, None] == other['labels']
    )
    return int(found.any(1).sum()), int(likely.sum()), 'detections'


def _classes(scores: Tensor) -> Tensor:
    """Return the class of each pixel; one channel is the logit of the second of two classes."""
    return scores.argmax(0) if len(scores) > 1 else scores[0] > 0
