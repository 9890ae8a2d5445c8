"""Notes in an ONNX file of a network's configuration: its task, how pictures are brought to its size, its boxes."""

from __future__ import annotations

from typing import Any

from torch import nn

from qsdt_mm.deploy.evaluation import head_of
from qsdt_mm.errors import InputError

ALL = 10**6  # boxes of an image, where their number is not limited
TASKS = dict(head='classification', decode_head='segmentation', bbox_head='detection')


def task_of(model: nn.Module) -> str:
    """Return the task of what a plan computes; 'features' where its network has no single head.

    Raises:
        InputError: it has no features either.
    """
    try:
        return TASKS[head_of(model)]
    except InputError:
        if not hasattr(model, 'extract_feat'):
            raise
        return 'features'


def image_steps(cfg: Any, task: str, size: list[int]) -> list[list]:
    """Return steps that bring a picture to a size, as the test pipeline does where it can be said so shortly.

    ``['short', 256]`` makes the shorter edge so long, ``['crop', H, W]`` cuts out the middle, ``['exact', H, W]``
    stretches, ``['fit', H, W]`` makes it as large as fits and fills up on the right and below.
    """
    if task != 'classification':
        return [['fit', *size]]
    dataset = (cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}).get('dataset') or {}
    found: list[list] = []
    for step in dataset.get('pipeline') or []:
        kind = str(step['type']).rpartition('.')[2]
        if kind == 'ResizeEdge' and step.get('edge', 'short') == 'short':
            found.append(['short', int(step['scale'])])
        elif kind == 'CenterCrop':
            crop = step['crop_size']
            found.append(['crop', *([crop, crop] if isinstance(crop, int) else crop)])
    if [step[0] for step in found] == ['short', 'crop'] and found[1][1:] == list(size):
        return found
    return [['exact', *size]]


def boxes_of(model: nn.Module) -> dict[str, Any] | None:
    """Return what boxes are decoded with from the maps of a head with anchors; None for other heads."""
    head = getattr(model, 'bbox_head', None)
    priors, coder = getattr(head, 'prior_generator', None), getattr(head, 'bbox_coder', None)
    if type(priors).__name__ != 'AnchorGenerator' or type(coder).__name__ != 'DeltaXYWHBBoxCoder':
        return None
    if getattr(head, 'reg_decoded_bbox', False) or getattr(coder, 'add_ctr_clamp', False):
        return None
    test = getattr(head, 'test_cfg', None) or {}
    most = int(test.get('max_per_img', 100))
    return dict(
        strides=[list(map(int, stride)) for stride in priors.strides],
        anchors=[level.tolist() for level in priors.base_anchors],
        means=list(coder.means),
        stds=list(coder.stds),
        sigmoid=bool(head.use_sigmoid_cls),
        overlap=float((test.get('nms') or {}).get('iou_threshold', 0.5)),
        most=most if most > 0 else ALL,
    )
