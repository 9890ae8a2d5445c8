"""Checks of data that somebody else's code reads: what is wrong is said in a line that names the file."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.registry import DATASETS
from torch import nn

from qsdt_mm.errors import InputError, is_own_fault

from .cfg_options import resolve_type
from .shell import Session, describe

PACKERS = dict(mmpretrain='PackInputs', mmdet='PackDetInputs', mmseg='PackSegInputs')
"""The last step of a pipeline, by the library whose data preprocessor gets the sample."""


class Limits(NamedTuple):
    """How many classes a network tells apart, None where that cannot be known, and labels that mean nothing.

    Args:
        num_classes: of its head.
        of_pixels: of its map of classes; a detector that also has one has another number there.
        ignored: labels of pixels that are left out.
    """

    num_classes: int | None
    of_pixels: int | None = None
    ignored: tuple[int, ...] = ()

    @classmethod
    def of(cls, model: nn.Module) -> Limits:
        """What the heads of a classifier, detector or segmenter say."""
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
    """A part of a network by its dotted name; None if there is none."""
    for name in path.split('.'):
        model = getattr(model, name, None)
    return model


def _num_classes(head: Any) -> int | None:
    """The smallest ``num_classes`` of a head, or of several."""
    heads = list(head) if isinstance(head, nn.ModuleList) else [head]
    return min((n for n in (getattr(one, 'num_classes', None) for one in heads) if isinstance(n, int)), default=None)


def _ignored(head: Any) -> tuple[int, ...]:
    """The labels that a head of pixels leaves out."""
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
                text = describe(error)
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
    """The data sets that one wraps."""
    inner = getattr(dataset, 'datasets', None)
    for part in inner if isinstance(inner, (list, tuple)) else [getattr(dataset, 'dataset', None)]:
        if part is not None and part is not dataset:
            yield part


def parts_of(dataset: Any) -> Iterator[Any]:
    """A data set and those that it wraps, and so on."""
    yield dataset
    for part in parts_below(dataset):
        yield from parts_of(part)


def classes_of(dataset: Any) -> list[str] | None:
    """The names of a data set's classes, if it has any."""
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
    """Whether every sample of a data set passes a pipeline of :func:`check_samples`."""
    leaves = [part for part in parts_of(dataset) if next(parts_below(part), None) is None]
    return all(isinstance(getattr(part, 'pipeline', None), CheckedPipeline) for part in leaves)


def try_sample(dataset: Any, model: nn.Module) -> None:
    """Read the first sample as a run would, so that a pipeline that cannot work is found before the run begins.

    Random numbers are what they were afterwards. Data sets without a pipeline of mmengine's are left alone.

    Raises:
        InputError: the sample or the pipeline is faulty, or the sample is not packed as the network takes it.
    """
    if any(isinstance(getattr(part, 'pipeline', None), CheckedPipeline) for part in parts_of(dataset)):
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            sample = dataset[0]
        finally:
            for put_back, state in zip((random.setstate, np.random.set_state, torch.set_rng_state), states):
                put_back(state)
        packer = PACKERS.get(type(getattr(model, 'data_preprocessor', None)).__module__.partition('.')[0])
        if packer and isinstance(sample, dict) and 'inputs' not in sample:
            raise InputError(f"the pipeline leaves no 'inputs' for the network: its last step has to be {packer}")


def build_samples(config: Any, model: Any, session: Session) -> Any:
    """A data set for a tool that goes through its samples by itself.

    Args:
        config: The data set's configuration.
        model: The network that gets the samples.
        session: Of the tool.

    Raises:
        InputError: it cannot be built, is empty, or has other classes than the network.
    """
    with session.stage('building the images'):
        dataset = DATASETS.build(config)
        check_samples(dataset, model, 'test')
        if not len(dataset):
            raise InputError(f'the test data set is empty ({type(dataset).__name__})')
        try_sample(dataset, model)
    return dataset


def check_loader(loader: Any, what: str, model: Any) -> None:
    """Refuse a data loader that yields nothing, or other classes than the network's; name files with faulty samples.

    Raises:
        InputError: the data set is empty, or smaller than the one batch that ``drop_last`` asks for, or has more
            classes than the network.
    """
    dataset = loader.dataset
    check_samples(dataset, model, what)
    where = getattr(dataset, 'data_root', '') or getattr(dataset, 'ann_file', '')
    name = type(dataset).__name__ + (f' in {where}' if where else '')
    try:
        samples, batches = len(dataset), len(loader)
    except TypeError:  # iterable data sets have no length
        return
    if samples == 0:
        raise InputError(f'the {what} data set is empty ({name})')
    if batches == 0:
        raise InputError(f'the {what} data set gives no batch: {samples} samples ({name}), drop_last=True')
    try_sample(dataset, model)


def check_same_classes(train: Any, val: Any) -> None:
    """Refuse two parts of the data in which a label means two things, as with a class's folder in one of them only.

    Raises:
        InputError: the classes differ.
    """
    first, second = classes_of(train), classes_of(val)
    different = next(((a, b) for a, b in zip(first or [], second or []) if a != b), None)
    if different:
        label = [*zip(first, second)].index(different)
        raise InputError(
            f'label {label} is {different[0]!r} in the training data and {different[1]!r} in the validation data: '
            'both need the same classes'
        )


def check_annotation_files(cfg: Any, *splits: str) -> None:
    """Check the COCO files and lists of images of a configuration, before code reads them that trusts them.

    Args:
        cfg: the configuration.
        splits: which of 'train', 'val', 'test'.

    Raises:
        InputError: a file is missing or malformed; the message names it and the place in it.
    """
    wanted: dict[str, list[str]] = {}
    lists: set[str] = set()
    scope = cfg.get('default_scope')
    for split in splits:
        for config in _data_sets(cfg.get(f'{split}_dataloader')):
            kinds = [c for kind in resolve_type(config.get('type'), scope) for c in getattr(kind, '__mro__', ())]
            file = config.get('ann_file')
            names, root = {kind.__name__ for kind in kinds}, config.get('data_root') or ''
            if file and 'CustomDataset' in names and config.get('with_label', True):
                lists.add(str(Path(str(root)) / str(file)))
            if file and 'CocoDataset' in names:
                meta = config.get('metainfo')
                given = meta.get('classes') if isinstance(meta, Mapping) else None
                known = next((k.METAINFO['classes'] for k in kinds if 'classes' in getattr(k, 'METAINFO', {})), ())
                classes = wanted.setdefault(str(Path(str(root)) / str(file)), [])
                classes += [str(name) for name in ([given] if isinstance(given, str) else given or known)]
        evaluators = cfg.get(f'{split}_evaluator')
        for config in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            if (
                isinstance(config, Mapping)
                and str(config.get('type')).endswith('CocoMetric')
                and config.get('ann_file')
            ):
                wanted.setdefault(str(config['ann_file']), [])
    for file, classes in wanted.items():
        if '://' not in file:
            check_coco_file(file, classes)
    for file in sorted(lists):
        if '://' not in file:
            check_list_file(file)


def check_list_file(path: str | Path) -> None:
    """Check that a file lists images as mmpretrain reads it: lines ``path label``.

    Raises:
        InputError: it does not; the message names the file and the line.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from error
    except UnicodeDecodeError as error:
        raise InputError(f'{path} is not a text file') from error
    if not any(line.strip() for line in lines):
        raise InputError(f'{path} lists no image')
    for i, line in enumerate(lines, 1):
        words = line.strip().rsplit(' ', 1)
        if len(words) != 2 or not words[1].isdecimal():
            raise InputError(f'{path}, line {i}: expected "path label", got {line[:80]!r}')


def _data_sets(config: Any) -> Iterator[Mapping]:
    if isinstance(config, Mapping):
        if 'type' in config and 'ann_file' in config:
            yield config
        for key in ('dataset', 'datasets'):
            yield from _data_sets(config.get(key))
    elif isinstance(config, (list, tuple)):
        for item in config:
            yield from _data_sets(item)


def check_coco_file(path: str | Path, classes: Sequence[str] = ()) -> None:
    """Check that a file holds COCO annotations whose identifiers fit together.

    Args:
        path: the file.
        classes: names that must be among its categories.

    Raises:
        InputError: it does not; the message names the file and the first place that is wrong.
    """
    try:
        with open(path, encoding='utf-8') as file:
            held = json.load(file)
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from error
    except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
        raise InputError(f'{path} is no JSON file: {" ".join(str(error).split())[:120]}') from error

    def rows(name: str) -> list[dict]:
        found = held.get(name) if isinstance(held, dict) else None
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise InputError(f'{path} holds no COCO annotations: expected a list of objects under {name!r}')
        return found

    def identifiers(name: str) -> set:
        seen: set = set()
        for i, row in enumerate(rows(name)):
            key = row.get('id')
            if not isinstance(key, (int, str)) or isinstance(key, bool):
                raise InputError(f'{path}: {name}[{i}] has id {key!r}: expected a number or a word')
            if key in seen:
                raise InputError(f'{path}: {name}[{i}] has id {key!r}, which another has too')
            seen.add(key)
        return seen

    images, categories = identifiers('images'), identifiers('categories')
    identifiers('annotations')
    for i, row in enumerate(held['images']):
        if not isinstance(row.get('file_name'), str) or not row['file_name']:
            raise InputError(f'{path}: images[{i}] has file_name {row.get("file_name")!r}: expected a file')
        for side in ('height', 'width'):
            if not isinstance(row.get(side), int) or isinstance(row[side], bool) or row[side] < 1:
                raise InputError(f'{path}: images[{i}] has {side} {row.get(side)!r}: expected an integer >= 1')
    names = [row.get('name') for row in held['categories']]
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f'{path}: categories[{i}] has name {name!r}: expected a word')
    absent = [name for name in classes if name not in names]
    if absent:
        raise InputError(
            f'{path} has no category {absent[0]!r}, which is among the classes; it has {", ".join(names[:5])}'
            + (', ...' if len(names) > 5 else '')
        )
    sizes = {row['id']: [row['height'], row['width']] for row in held['images']}
    for i, row in enumerate(held['annotations']):
        place = f'{path}: annotations[{i}]'
        for key, known in (('image_id', images), ('category_id', categories)):
            if not isinstance(row.get(key), (int, str)) or isinstance(row[key], bool) or row[key] not in known:
                raise InputError(f'{place} has {key} {row.get(key)!r}, which is not there')
        box, area, shape = row.get('bbox'), row.get('area'), row.get('segmentation')
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            raise InputError(f'{place} has bbox {str(box)[:60]}: expected four numbers')
        if not _is_number(area):
            raise InputError(f'{place} has area {str(area)[:60]}: expected a number')
        if row.get('iscrowd', 0) not in (0, 1):
            raise InputError(f'{place} has iscrowd {row["iscrowd"]!r}: expected 0 or 1')
        polygons = isinstance(shape, list) and all(
            isinstance(part, list) and all(map(_is_number, part)) for part in shape
        )
        mask = isinstance(shape, dict) and {'size', 'counts'} <= set(shape)
        if shape is not None and not polygons and not mask:
            raise InputError(f'{place} has segmentation {str(shape)[:60]}: expected polygons or a mask')
        if mask:
            size = sizes[row['image_id']]
            if shape['size'] != size or not isinstance(shape['counts'], (list, str)):
                raise InputError(f'{place} has a mask of size {shape["size"]}: its image has {size}')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
