"""Images for calibration, the plan, and names of classes, from the configuration of a network that is deployed."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qsdt_mm.errors import InputError, one_line

from .data_checks import build_samples
from .shell import Session

if TYPE_CHECKING:
    from torch import Tensor, nn

    from qsdt_mm.deploy import Plan

CALIBRATE = 32
"""Images for calibration where nothing else is said."""


def calibration_batches(cfg: Any, count: int, model: Any, session: Session) -> list[Any]:
    """Return samples, each collated by itself, as a network's test takes them.

    They are images of the training data in the test pipeline, spread evenly over it; where that cannot be read, images
    of the test data, and a note says so.

    Args:
        cfg: the configuration.
        count: how many at most.
        model: the network.
        session: of the tool.

    Raises:
        InputError: the configuration has no data, or they cannot be read.
    """
    from mmengine.dataset import pseudo_collate

    tested = (cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}).get('dataset')
    if tested is None:
        raise InputError('calibration needs images: the configuration has no test_dataloader')
    candidates = [tested]
    if (training := _training_data(cfg, tested.get('pipeline'))) is not None:
        candidates.insert(0, training)
    for candidate in candidates:
        try:
            dataset = build_samples(candidate, model, session)
        except InputError as error:
            if candidate is candidates[-1]:
                raise
            session.note(f'calibration takes test images: the training data cannot be read ({one_line(error)})')
            continue
        number = min(count, len(dataset))
        with session.stage('reading images for calibration'):
            return [pseudo_collate([dataset[i * len(dataset) // number]]) for i in range(number)]
    raise AssertionError


def _training_data(cfg: Any, pipeline: Any) -> Any:
    """Return the training data's configuration with another pipeline; None where it has no pipeline of its own."""
    dataset = copy.deepcopy((cfg.get('train_dataloader') or {}).get('dataset'))
    while isinstance(dataset, dict) and isinstance(dataset.get('dataset'), dict):  # repeated, or balanced
        dataset = dataset['dataset']
    if not isinstance(dataset, dict) or 'pipeline' not in dataset or pipeline is None:
        return None
    dataset['pipeline'] = copy.deepcopy(pipeline)
    return dataset


def planned(
    cfg: Any,
    model: nn.Module,
    checkpoint: str,
    session: Session,
    *,
    task: str,
    count: int,
    size: Sequence[int] | None = None,
    with_pixels: bool = False,
) -> tuple[Plan, Tensor | None]:
    """Return the plan in a packed folder, or else one of a model, and the pixels that it was made with.

    Args:
        cfg: the configuration.
        model: its network, with the weights of the checkpoint unless that is a packed plan.
        checkpoint: file or packed folder.
        session: of the tool.
        task: 'features' for a plan of backbone and neck.
        count: images for calibration.
        size: ``(H, W)`` that they are stretched to; None: that of the test pipeline.
        with_pixels: return such pixels of a packed plan too, which needs none.

    Raises:
        InputError: the network cannot be planned, or the packed plan is for another size.
    """
    from qsdt_mm.deploy import plan
    from qsdt_mm.deploy.evaluation import calibration_pixels
    from qsdt_mm.deploy.pretrained import holds_plan_alone, packed_plan

    steps = packed_plan(checkpoint)
    fits = steps is None or not size or list(steps.shape[-2:]) == list(size)
    if not fits and not holds_plan_alone(checkpoint):
        steps = None  # the weights are at hand
    elif not fits:
        raise InputError(f'{checkpoint} is a plan for images of {steps.shape[-2]} x {steps.shape[-1]}, not --size')
    pixels = None
    if steps is None or with_pixels:
        size = size if steps is None else steps.shape[-2:]
        pixels = calibration_pixels(model, calibration_batches(cfg, count, model, session), size)
    if steps is None:
        with session.stage('planning'):
            steps = plan(model, pixels, run=run_of(task))
    return steps, pixels


def run_of(task: str) -> Callable[[nn.Module, Tensor], Any] | None:
    """Return what passes an image through a network whose plan is to be made; None for what the library does itself."""
    return (lambda network, image: network.extract_feat(image)) if task == 'features' else None


def known_preprocessing(model: nn.Module, steps: Plan) -> dict[str, Any]:
    """Return mean, std and order of channels of a plan's images: of its folder, else of a model's preprocessor."""
    from qsdt_mm.deploy.pretrained import ORDERS, preprocessing_of

    known = {**preprocessing_of(model), **(getattr(steps, 'preprocessing', None) or {})}
    channels = known.get('channels', 'BGR')
    if steps.shape[-3] != 3:
        channels = ORDERS.get(steps.shape[-3], f'{steps.shape[-3]} of events')
    return dict(known, channels=channels)


def metainfo(cfg: Any) -> dict[str, Any]:
    """Return the names and colours of the classes, from the configuration or its data set's class."""
    from mmengine.registry import DATASETS

    from .cfg_options import resolve_type

    dataset = (cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}).get('dataset')
    if dataset is None:
        return {}
    given = dataset.get('metainfo') or {}
    if given.get('classes'):
        return given
    if isinstance(dataset.get('classes'), (list, tuple)):
        return dict(classes=dataset.classes)
    for kind in [*resolve_type(dataset.type, cfg.get('default_scope')), DATASETS.get(dataset.type)]:
        known = getattr(kind, 'METAINFO', None) or {}
        if known.get('classes'):
            return known
    with contextlib.suppress(Exception):  # named by the folders of the data, if they are here
        return DATASETS.build(dataset).metainfo
    return {}
