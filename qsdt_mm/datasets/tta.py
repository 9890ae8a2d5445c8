"""``tools/test.py --tta``: every image is seen several times, and what was found in all views is merged."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from qsdt_mm.errors import InputError

PACKERS = ('PackInputs', 'PackDetInputs', 'PackSegInputs')
SCALES = {'mmpretrain': (1.0,), 'mmdet': (1.0, 0.75, 1.25), 'mmseg': (1.0, 0.75, 1.25)}
"""Sizes of the default views, in those of the test pipeline, by library; the first view is the plain image."""
FLIPS = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0, direction='horizontal')]


def apply_tta(cfg: Any) -> str:
    """Give the test data several views of each image: ``tta_pipeline`` of a configuration, or a default.

    Args:
        cfg: changed in place, ``tta_model`` included.

    Returns:
        What was done, for the user.

    Raises:
        InputError: the library has no model that merges, or the test pipeline cannot be extended by itself.
    """
    scope = cfg.get('default_scope')
    if scope not in SCALES:
        raise InputError(f'--tta works with default_scope {", ".join(SCALES)}, got {scope!r}')
    given = cfg.get('tta_pipeline')
    for dataset in innermost(cfg.test_dataloader.get('dataset')):
        pipeline = list(given or dataset.get('pipeline') or [])
        dataset['pipeline'] = copy.deepcopy(pipeline) if given else with_views(pipeline, SCALES[scope])
    views = next((step for step in dataset['pipeline'] if step.get('type') == 'TestTimeAug'), None)
    if views is None:
        raise InputError('--tta: tta_pipeline has no step TestTimeAug')
    if cfg.get('tta_model') is None:
        cfg.tta_model = default_model(cfg)
    merged = cfg.tta_model.get('type')
    said = f'--tta: {prod(len(choice) for choice in views["transforms"])} views of each image, '
    if given:
        said += "as the configuration's tta_pipeline says"
    else:
        said += 'as it is and flipped left to right'
        if len(SCALES[scope]) > 1:
            said += f', at {", ".join(f"{scale:g}" for scale in sorted(SCALES[scope]))} times its size'
        if not flips(cfg.get('train_dataloader')):
            said += ' (training does not flip: if a mirror image means something else, write a tta_pipeline)'
    return f'{said}; merged by {getattr(merged, "__name__", merged)}'


def innermost(dataset: Any) -> Iterator[dict]:
    """Yield the data sets with pipelines of their own within those that wrap them."""
    if isinstance(dataset, Mapping):
        inner = dataset.get('datasets', dataset.get('dataset'))
        if inner is None:
            yield dataset
        for part in inner if isinstance(inner, (list, tuple)) else [inner]:
            yield from innermost(part)


def flips(config: Any) -> bool:
    """Return whether a configuration of data has a step that flips."""
    if isinstance(config, Mapping):
        return 'Flip' in str(config.get('type')) or any(flips(value) for value in config.values())
    return isinstance(config, (list, tuple)) and any(flips(value) for value in config)


def with_views(pipeline: list[dict], scales: tuple[float, ...]) -> list[dict]:
    """Turn a test pipeline into one whose images come at several sizes, as they are and flipped.

    The truth is loaded after that, and keeps its size and side.

    Raises:
        InputError: it does not pack an image, or loads events.
    """
    packer = pipeline[-1] if pipeline else {}
    if packer.get('type') not in PACKERS:
        raise InputError(f'--tta: the last step of the test pipeline has to be one of {", ".join(PACKERS)}')
    if packer.get('input_key', 'img') != 'img':
        raise InputError(
            f'--tta: the test pipeline packs {packer.input_key}, not images, and a flip may turn a direction round: '
            'say in a tta_pipeline what the views are'
        )
    steps = copy.deepcopy(pipeline)
    first = next((i for i, step in enumerate(steps) if step['type'] == 'LoadAnnotations'), len(steps) - 1)
    if 'meta_keys' in packer:
        steps[-1]['meta_keys'] = tuple(dict.fromkeys([*packer['meta_keys'], 'flip', 'flip_direction']))
    choices = [FLIPS, *([step] for step in steps[first:])]
    if len(scales) > 1:
        resize = next((i for i, step in enumerate(steps[:first]) if step['type'] == 'Resize'), None)
        plain = dict(type='Resize', scale_factor=1.0, keep_ratio=True)
        if resize is not None:
            plain, between = steps[resize], [[step] for step in steps[resize + 1 : first]]
            choices, first = [*between, *choices], resize
        choices.insert(0, [resized(plain, scale) for scale in scales])
    return [*steps[:first], dict(type='TestTimeAug', transforms=copy.deepcopy(choices))]


def resized(step: Mapping, times: float) -> dict:
    """Return a ``Resize`` to so many times the size."""
    step = dict(step)
    if step.get('scale') is not None:
        scale = step['scale']
        step['scale'] = tuple(round(side * times) for side in ([scale, scale] if isinstance(scale, int) else scale))
    else:
        factor = step.get('scale_factor') or 1.0
        step['scale_factor'] = tuple(f * times for f in factor) if isinstance(factor, (list, tuple)) else factor * times
    return step


def default_model(cfg: Any) -> dict:
    """Return the model that merges the views where a configuration names none."""
    scope = cfg.default_scope
    if scope == 'mmseg':
        return dict(type='SegTTAModel')
    if scope == 'mmpretrain':
        return dict(type='MeanScoreTTAModel')
    limits = cfg.model.get('test_cfg') or {}
    limits = limits.get('rcnn') or limits
    nms = limits.get('nms') or dict(type='nms', iou_threshold=0.5)
    return dict(type='InstanceTTAModel', tta_cfg=dict(nms=nms, max_per_img=limits.get('max_per_img', 100)))


def merging(settings: Mapping, model: nn.Module) -> nn.Module:
    """Wrap a model in the one that merges its predictions of several views.

    Raises:
        InputError: it cannot merge what this model predicts.
    """
    wrapped = MODELS.build(dict(settings, module=model))
    kind = type(wrapped).__name__
    if kind == 'DetTTAModel' and getattr(model, 'with_mask', False):
        raise InputError(
            "--tta: tta_model DetTTAModel merges boxes and this model predicts masks too: use type='InstanceTTAModel'"
        )
    wrapped.data_preprocessor = model.data_preprocessor  # of the pictures that hooks draw
    return wrapped


def first_view(data_batch: dict) -> None:
    """Leave the first view in a batch, in place, for hooks that draw it."""
    data_batch.update({key: views[0] for key, views in data_batch.items() if isinstance(views, (list, tuple))})
