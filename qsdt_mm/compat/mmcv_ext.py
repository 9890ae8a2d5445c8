"""Stand-in for ``mmcv._ext``: the ops that detection needs, by torchvision's ops and plain torch.

It is imported under that name, by mmcv's own wrappers, only where the compiled module is absent. Names, arguments and
the habit of writing into tensors that are passed along are those of the compiled module. Further ops lie in the files
``mmcv_ext_*.py`` beside it, which are read when one of them is asked for.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

HOW_TO_COMPILE = (
    'mmcv was installed without its compiled ops; with a C++ compiler (and CUDA for a GPU) build them: '
    'MMCV_WITH_OPS=1 pip install --force-reinstall --no-deps --no-build-isolation --no-binary onedl-mmcv onedl-mmcv '
    '(mmcv in the place of onedl-mmcv beside the original mmengine)'
)


def _wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return half precision as float32: torchvision's kernels do not take it everywhere."""
    return tuple(t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Return the indices of the boxes kept, by falling score; sides are ``x2 - x1 + offset``."""
    from torchvision.ops import nms as torchvision_nms

    if not len(boxes):
        return boxes.new_zeros(0, dtype=torch.long)
    boxes, scores = _wide(boxes, scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision_nms(boxes, scores.to(boxes.dtype), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Apply Soft-NMS (arXiv 1704.04503): the highest box is taken; the others lose score by their overlap with it.

    Args:
        boxes, scores: ``(N, 4)``, ``(N,)``.
        dets: ``(N, 5)``, filled with the boxes taken and their scores.
        iou_threshold: overlaps up to it cost nothing (methods 0 and 1).
        sigma: of the Gaussian (method 2).
        min_score: boxes that fall below it are dropped.
        method: 0 hard, 1 linear ``1 - iou``, 2 Gaussian ``exp(-iou^2 / sigma)``.
        offset: sides are ``x2 - x1 + offset``.

    Returns:
        Indices of the boxes taken, in that order.
    """
    left, scores = boxes.clone(), scores.clone()
    index = torch.arange(len(boxes))
    taken = []
    while len(index):
        best = int(scores.argmax())
        dets[len(taken), :4], dets[len(taken), 4] = left[best], scores[best]
        taken.append(int(index[best]))
        box = left[best]
        rest = torch.arange(len(index)) != best
        left, scores, index = left[rest], scores[rest], index[rest]
        sides = (torch.minimum(left[:, 2:], box[2:]) - torch.maximum(left[:, :2], box[:2]) + offset).clamp_min(0)
        inter = sides.prod(1)
        area, areas = (box[2:] - box[:2] + offset).prod(), (left[:, 2:] - left[:, :2] + offset).prod(1)
        iou = inter / (area + areas - inter)
        if method == 2:
            weight = torch.exp(-iou * iou / sigma)
        else:
            weight = torch.where(iou > iou_threshold, 1 - iou if method == 1 else torch.zeros_like(iou), 1.0)
        scores = scores * weight
        kept = scores >= min_score
        left, scores, index = left[kept], scores[kept], index[kept]
    return torch.tensor(taken, dtype=torch.long)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Return the index of each box ``(N, 5)`` that NMS keeps, by falling score, with those of boxes it suppresses."""
    (dets,) = _wide(dets)
    order = dets[:, 4].argsort(descending=True, stable=True)
    boxes, left = dets[order, :4], torch.ones(len(dets), dtype=torch.bool)
    areas, groups = (boxes[:, 2:] - boxes[:, :2]).prod(1), []
    for i, box in enumerate(boxes):
        if left[i]:
            sides = torch.minimum(boxes[:, 2:], box[2:]) - torch.maximum(boxes[:, :2], box[:2])
            inter = sides.clamp_min(0).prod(1)
            group = left & (inter / (areas + areas[i] - inter) >= iou_threshold)
            group[i] = True
            groups.append(order[group].tolist())
            left &= ~group
    return groups


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Write overlaps of boxes ``(N, 4)``, ``(M, 4)`` into ``ious``, ``(N, M)``, or ``(N,)`` if aligned.

    ``mode`` 0 divides by the union, 1 by the first box; sides are ``x2 - x1 + offset``.
    """
    first, second = _wide(bboxes1, bboxes2)
    areas = [(boxes[:, 2:] - boxes[:, :2] + offset).prod(1) for boxes in (first, second)]
    if not aligned:
        first, areas[0] = first[:, None], areas[0][:, None]
    sides = torch.minimum(first[..., 2:], second[:, 2:]) - torch.maximum(first[..., :2], second[:, :2]) + offset
    inter = sides.clamp_min(0).prod(-1)
    ious.copy_(inter / (areas[0] if mode == 1 else areas[0] + areas[1] - inter))


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write RoIAlign (arXiv 1703.06870) into ``output``, ``(R, C, h, w)``; ``pool_mode`` 0 takes maxima, 1 averages."""
    from torchvision.ops import roi_align

    if not len(rois):
        return
    if pool_mode == 0:
        _part('regions').roi_align_maxima_forward(
            input, rois, output, argmax_y, argmax_x, spatial_scale, sampling_ratio, aligned
        )
        return
    (boxes,) = _wide(rois)
    # Type and order of memory in one pass: torchvision's kernels take neither half precision nor channels last.
    wide = torch.float32 if input.dtype in (torch.float16, torch.bfloat16) else input.dtype
    features = input.to(wide, memory_format=torch.contiguous_format)
    pooled = roi_align(
        features, boxes.to(features.dtype), (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of :func:`roi_align_forward` into ``grad_input``, ``(N, C, H, W)``."""
    import torchvision  # noqa: F401  registers its ops

    if not len(rois):
        return
    if pool_mode == 0:
        _part('regions').roi_align_maxima_backward(grad_output, rois, argmax_y, argmax_x, grad_input)
        return
    gradient, boxes = _wide(grad_output, rois)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            gradient.contiguous(),
            boxes.to(gradient.dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def _sigmoid_focal_loss(input: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    """Compute the focal loss (arXiv 1708.02002) of each class; a target equal to their number is background."""
    positive = torch.zeros(len(input), input.shape[1] + 1, dtype=torch.bool, device=input.device)
    positive = positive.scatter_(1, target.view(-1, 1), True)[:, :-1]
    probability = input.sigmoid()
    log_p, log_q = torch.nn.functional.logsigmoid(input), torch.nn.functional.logsigmoid(-input)
    loss = torch.where(positive, -alpha * (1 - probability) ** gamma * log_p, -(1 - alpha) * probability**gamma * log_q)
    if weight.numel():
        # Background has no weight of its own.
        by_target = torch.cat([weight, weight.new_ones(1)])[target] if len(weight) == input.shape[1] else weight[target]
        loss = loss * by_target.view(-1, 1)
    return loss


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the sigmoid focal loss into ``output``, ``(N, classes)``."""
    output.copy_(_sigmoid_focal_loss(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each element of the loss by its input into ``grad_input``."""
    with torch.enable_grad():
        logits = input.detach().requires_grad_()
        loss = _sigmoid_focal_loss(logits, target, weight, gamma, alpha)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
    grad_input.copy_(gradient)


def get_compiler_version() -> str:
    """Return the compiler that mmcv reports."""
    return 'not compiled'


def get_compiling_cuda_version() -> str:
    """Return the CUDA version that mmcv reports."""
    return 'not available'


OPS = (
    'nms',
    'softnms',
    'roi_align_forward',
    'roi_align_backward',
    'sigmoid_focal_loss_forward',
    'sigmoid_focal_loss_backward',
    'nms_match',
    'bbox_overlaps',
)
"""The ops that this file has; :func:`all_ops` has those of the others, too."""

PARTS = ('deformable', 'sampling', 'rotated', 'regions')


@cache
def _part(name: str) -> ModuleType:
    """Return the module in the file of that part: by path, since this package need not be importable yet."""
    file = Path(__file__).with_name(f'mmcv_ext_{name}.py')
    spec = importlib.util.spec_from_file_location(f'{__name__}_{name}', file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def all_ops() -> tuple[str, ...]:
    """Return the ops that are stood in for."""
    return (*OPS, *(op for part in PARTS for op in _part(part).OPS))


def no_stand_in(op: str, config: str = '') -> str:
    """Return what there is to say of an op that is missing, and of the configuration that needs it, if known."""
    needed = f' (config {config} needs it)' if config else ''
    return f"mmcv's op {op} has no stand-in{needed}: {HOW_TO_COMPILE}"


def _config_at_work() -> str:
    """Return the file of the configuration of who has called: mmengine's runner, a library's inferencer or model."""
    frame = sys._getframe()
    while frame is not None:
        cfg = getattr(frame.f_locals.get('self'), '__dict__', {}).get('cfg')
        if isinstance(getattr(cfg, 'filename', None), str):
            return cfg.filename
        frame = frame.f_back
    return ''


def __getattr__(name: str) -> Callable[..., Any]:
    """Return the op from another part; one that none has can be imported, and refuses to be called."""
    if name.startswith('__'):
        raise AttributeError(name)
    for part in PARTS:
        if name in _part(part).OPS:
            return getattr(_part(part), name)

    def missing(*args: Any, **kwargs: Any) -> None:
        error = NotImplementedError(no_stand_in(name, _config_at_work()))
        error.mmcv_op = name
        raise error

    missing.__name__ = name
    return missing
