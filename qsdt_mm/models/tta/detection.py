"""Views of an image merged into one set of detections."""

from __future__ import annotations

from mmcv.ops import batched_nms
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_flip
from mmengine.structures import InstanceData

AXES = dict(horizontal=(-1,), vertical=(-2,), diagonal=(-2, -1))


class InstanceTTAModel(DetTTAModel):
    """mmdet's merging by non-maximum suppression, for detections with masks too: each keeps the mask of its view.

    Args: those of ``mmdet.DetTTAModel``.

    >>> issubclass(InstanceTTAModel, DetTTAModel)
    True
    """

    def _merge_single_sample(self, data_samples: list[DetDataSample]) -> DetDataSample:
        views = [turned_back(sample) for sample in data_samples]
        merged, found = data_samples[0], InstanceData.cat(views)
        if len(found):
            boxes, kept = batched_nms(found.bboxes, found.scores, found.labels, self.tta_cfg.nms)
            found = found[kept]
            found.bboxes, found.scores = boxes[:, :4], boxes[:, 4]
            found = found[: self.tta_cfg.max_per_img]
        merged.pred_instances = found
        return merged


def turned_back(sample: DetDataSample) -> InstanceData:
    """Map the detections of a view, which may be flipped, back to places in the image."""
    found, direction = sample.pred_instances, sample.metainfo.get('flip_direction')
    if sample.metainfo.get('flip') and direction:
        found.bboxes = bbox_flip(found.bboxes, sample.ori_shape, direction)
        if 'masks' in found:
            found.masks = found.masks.flip(AXES[direction])
    return found
