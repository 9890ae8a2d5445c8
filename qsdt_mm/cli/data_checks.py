"""Checks of data that somebody else's code reads: what is wrong is said in a line that names the file."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from torch import nn

from qsdt_mm.datasets.coco_files import as_configured, reading_once
from qsdt_mm.datasets.labels import CheckedPipeline, check_samples, parts_of
from qsdt_mm.errors import InputError

from .class_checks import check_classes
from .file_checks import check_files, leaves_of
from .image_sizes import check_image_sizes
from .label_map_checks import check_label_values
from .shell import Session
from .unlabelled import is_bare, leave_out_labels

PACKERS = dict(mmpretrain='PackInputs', mmdet='PackDetInputs', mmseg='PackSegInputs')
"""The last step of a pipeline, by the library whose data preprocessor gets the sample."""


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
        kinds = type(getattr(model, 'data_preprocessor', None)).__mro__  # ours is a subclass of a library's
        packer = next((PACKERS[room] for kind in kinds if (room := kind.__module__.partition('.')[0]) in PACKERS), None)
        if packer and isinstance(sample, dict) and 'inputs' not in sample:
            raise InputError(f"the pipeline leaves no 'inputs' for the network: its last step has to be {packer}")


def build_samples(config: Any, model: Any, session: Session) -> Any:
    """Return a data set for a tool that goes through its samples by itself.

    Args:
        config: The data set's configuration.
        model: The network that gets the samples.
        session: Of the tool.

    Raises:
        InputError: it cannot be built, is empty, or has other classes than the network.
    """
    with session.stage('building the images'):
        dataset = as_configured(DATASETS.build(reading_once(config)))
        if any(is_bare(part, True) for part in leaves_of(dataset)):
            leave_out_labels(dataset)
        check_samples(dataset, model, 'test')
        if not len(dataset):
            raise InputError(f'the test data set is empty ({type(dataset).__name__})')
        check_image_sizes(dataset)
        try_sample(dataset, model)
    return dataset


def check_loader(loader: Any, what: str, model: Any) -> list[str]:
    """Refuse a data loader that yields nothing, or other classes than the network's; name files with faulty samples.

    Returns:
        Remarks that are no reason to stop.

    Raises:
        InputError: the data set is empty, or smaller than the one batch that ``drop_last`` asks for, or has more
            classes than the network, or files that are missing, damaged or read as something else.
    """
    dataset = loader.dataset
    check_samples(dataset, model, what)
    where = getattr(dataset, 'data_root', '') or getattr(dataset, 'ann_file', '')
    name = type(dataset).__name__ + (f' in {where}' if where else '')
    if getattr(dataset, 'img_suffix', None):
        name += f', img_suffix={dataset.img_suffix!r}'
    try:
        samples, batches = len(dataset), len(loader)
    except TypeError:  # iterable data sets have no length
        return []
    if samples == 0:
        raise InputError(f'the {what} data set is empty ({name})')
    if batches == 0:
        raise InputError(f'the {what} data set gives no batch: {samples} samples ({name}), drop_last=True')
    remarks = [*check_classes(dataset, model, what), *check_files(dataset, what), *check_image_sizes(dataset)]
    try_sample(dataset, model)
    return remarks + check_label_values(dataset, model, what)
