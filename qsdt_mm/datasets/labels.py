"""Samples that somebody else read: their faults name the file, and no label lies outside of the classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from mmengine.dataset import Compose
from torch import nn

from qsdt_mm.compat.renamed import refuse_old_names
from qsdt_mm.errors import InputError, is_own_fault, one_line

__getattr__ = refuse_old_names(
    __name__,
    'build_samples',
    'check_annotation_files',
    'check_coco_file',
    'check_list_file',
    'check_loader',
    'check_same_classes',
    'try_sample',
)


class Limits(NamedTuple):
    """Number of classes that a network tells apart, None where it cannot be known, and labels that mean nothing.

    Args:
        num_classes: of its head.
        of_pixels: of its map of classes; a detector that also has one has another number there.
        ignored: labels of pixels that are left out.

    >>> model = nn.Module()
    >>> model.decode_head = nn.Conv2d(8, 5, 1)
    >>> model.decode_head.num_classes = 5
    >>> Limits.of(model)
    Limits(num_classes=5, of_pixels=5, ignored=(255,))
    """

    num_classes: int | None
    of_pixels: int | None = None
    ignored: tuple[int, ...] = ()

    @classmethod
    def of(cls, model: nn.Module) -> Limits:
        """Return the limits that the heads of a classifier, detector or segmenter state."""
        for path in ('decode_head', 'head', 'bbox_head', 'roi_head.bbox_head'):
            head = _part(model, path)
            found = _num_classes(head)
            if found is None:
                continue
            if path == 'decode_head':
                others = _num_classes(getattr(model, 'auxiliary_head', None))
                return cls(found, min(found, others or found), _ignored(head))
            if path == 'head':
                preprocessor = getattr(model, 'data_preprocessor', None)
                one_hot = getattr(preprocessor, 'to_onehot', False) and getattr(preprocessor, 'num_classes', None)
                return cls(min(found, one_hot or found))
            semantic = _part(model, 'semantic_head') or _part(model, 'roi_head.semantic_head')
            things = getattr(semantic, 'num_things_classes', None)
            pixels = _num_classes(semantic) if things is None else things + semantic.num_stuff_classes
            return cls(found, pixels, _ignored(semantic))
        return cls(None)


def _part(model: nn.Module, path: str) -> Any:
    """Return a part of a network by its dotted name; None if there is none."""
    for name in path.split('.'):
        model = getattr(model, name, None)
    return model


def _num_classes(head: Any) -> int | None:
    """Return the smallest ``num_classes`` of a head, or of several."""
    heads = list(head) if isinstance(head, nn.ModuleList) else [head]
    return min((n for n in (getattr(one, 'num_classes', None) for one in heads) if isinstance(n, int)), default=None)


def _ignored(head: Any) -> tuple[int, ...]:
    """Return the labels that a head of pixels leaves out."""
    first = head[0] if isinstance(head, nn.ModuleList) else head
    own = getattr(first, 'ignore_index', getattr(getattr(first, 'loss_seg', None), 'ignore_index', None))
    return (255, own) if isinstance(own, int) else (255,)


def check_labels(sample: Any, limits: Limits, where: str) -> None:
    """Refuse a sample with a label that the network has no output for: on a GPU that ends all that is done there.

    Args:
        sample: of mmpretrain, mmdet or mmseg; anything else passes.
        limits: of the network.
        where: the sample's file, for the message.

    Raises:
        InputError: a label is out of range.
    """
    for labels, num_classes, ignored in (
        (getattr(sample, 'gt_label', None), limits.num_classes, ()),
        (getattr(getattr(sample, 'gt_instances', None), 'labels', None), limits.num_classes, ()),
        (getattr(getattr(sample, 'gt_sem_seg', None), 'data', None), limits.of_pixels, limits.ignored),
    ):
        if num_classes is None or not isinstance(labels, torch.Tensor) or not labels.numel():
            continue
        if labels.min() >= 0 and labels.max() < num_classes:
            continue
        inside = (labels >= 0) & (labels < num_classes)
        for label in ignored:
            inside |= labels == label
        if not inside.all():
            outside = int(labels[~inside].flatten()[0])
            raise InputError(
                f'{where} has the label {outside}: expected 0 to {num_classes - 1}, as the network has '
                f'{num_classes} classes'
            )


class CheckedPipeline(Compose):
    """A pipeline whose errors name the sample's file, and that lets no label outside of the classes through.

    Args:
        pipeline: the pipeline to take over.
        limits: of the labels.

    Raises:
        InputError: a step fails on a sample, an image has another size than its annotations say, or a label is not one
            of the network's classes. Faults of this package stay what they are.

    >>> from mmengine.structures import BaseDataElement
    >>> pipeline = CheckedPipeline(Compose([]), Limits(num_classes=2))
    >>> pipeline(dict(img_path='cat.png', data_samples=BaseDataElement(gt_label=torch.tensor([2]))))
    Traceback (most recent call last):
        ...
    qsdt_mm.errors.InputError: cat.png has the label 2: expected 0 to 1, as the network has 2 classes
    """

    def __init__(self, pipeline: Compose, limits: Limits) -> None:
        vars(self).update(vars(pipeline))
        self.limits = limits

    def __call__(self, data: dict) -> dict | None:
        """Apply the steps, then look at the labels."""
        sample = data.get('sample_idx')
        where = str(data.get('img_path') or ('a sample' if sample is None else f'sample {sample}'))
        said, seen = (data.get('height'), data.get('width')), False
        for step in self.transforms:
            try:
                data = step(data)
            except InputError:
                raise
            except Exception as error:
                if is_own_fault(error):
                    raise
                text = one_line(error)
                raise InputError(text if where in text else f'{where}: {type(step).__name__}: {text}') from error
            if data is None:
                return None
            size = data.get('ori_shape') if isinstance(data, dict) else None
            label_map = data.get('gt_seg_map') if size and not seen else None
            if label_map is not None:  # as it came from its file; later steps change both
                seen = True
                if tuple(label_map.shape) != tuple(size[:2]):
                    raise InputError(
                        f'{data.get("seg_map_path", where)} has the shape {tuple(label_map.shape)}: its image has '
                        f'{size[0]} x {size[1]} pixels'
                    )
            if size and None not in said:  # sides may change places with the orientation that a camera wrote down
                if sorted(size[:2]) != sorted(said):
                    raise InputError(
                        f'{where} has {size[0]} x {size[1]} pixels: its annotations say {said[0]} x {said[1]}'
                    )
                said = None, None
        samples = data.get('data_samples') if isinstance(data, dict) else None
        for sample in samples if isinstance(samples, list) else [samples]:  # several are views of one image
            check_labels(sample, self.limits, where)
        return data


def parts_below(dataset: Any) -> Iterator[Any]:
    """Yield the data sets that one wraps."""
    inner = getattr(dataset, 'datasets', None)
    for part in inner if isinstance(inner, (list, tuple)) else [getattr(dataset, 'dataset', None)]:
        if part is not None and part is not dataset:
            yield part


def parts_of(dataset: Any) -> Iterator[Any]:
    """Yield a data set and those that it wraps, and so on."""
    yield dataset
    for part in parts_below(dataset):
        yield from parts_of(part)


def classes_of(dataset: Any) -> list[str] | None:
    """Return the names of a data set's classes, if it has any."""
    meta = getattr(dataset, 'metainfo', None)
    classes = meta.get('classes') if isinstance(meta, Mapping) else None
    return [str(name) for name in classes] if isinstance(classes, (list, tuple)) and classes else None


def check_samples(dataset: Any, model: nn.Module, what: str) -> None:
    """Compare a data set's classes with a network's, and have its samples checked as they are read.

    Args:
        dataset: mmengine's, or one that wraps such; any other is left alone.
        model: the network.
        what: its part, for the message.

    Raises:
        InputError: there are more classes than the network tells apart.
    """
    limits, classes = Limits.of(model), classes_of(dataset)
    if classes and limits.num_classes is not None and len(classes) > limits.num_classes:
        shown = ', '.join([*classes[:3], *(['...'] if len(classes) > 3 else [])])
        raise InputError(
            f'the {what} data have {len(classes)} classes ({shown}), the network has num_classes={limits.num_classes}'
        )
    for part in parts_of(dataset):
        if isinstance(getattr(part, 'pipeline', None), Compose) and not isinstance(part.pipeline, CheckedPipeline):
            part.pipeline = CheckedPipeline(part.pipeline, limits)


def all_checked(dataset: Any) -> bool:
    """Return whether every sample of a data set passes a pipeline of :func:`check_samples`."""
    leaves = [part for part in parts_of(dataset) if next(parts_below(part), None) is None]
    return all(isinstance(getattr(part, 'pipeline', None), CheckedPipeline) for part in leaves)
