"""Results by class: what is taken for what, and which classes are worst."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop
from torch import Tensor

from qsdt_mm.analysis.class_results import ClassResults, count_pairs
from qsdt_mm.fileio.reports import write_json
from qsdt_mm.visualization.classes import draw_classes

FILE = 'classes.json'
TABLE_OF_CLASSES = re.compile(r'\n\+[-+]+\n\| category +\| mAP ')
"""mmdet's table, which stays in the log file where nobody asked for it."""


@HOOKS.register_module()
class ClassResultsHook(Hook):
    """Keeps results by class of the last validation or test, and draws them when the run is over.

    - classification: the confusion matrix, and the share of each class that is right;
    - segmentation: the confusion matrix of pixels, and each class's intersection over union;
    - detection (COCO metrics): each class's average precision, by the metric's own ``classwise=True``, masks before
      boxes. They do not appear among the metrics unless the configuration says ``classwise=True``.

    ``classes.json`` in the work directory is written after each validation and test, ``confusion.png`` (of detectors
    ``classes.png``) after a training and a test. Other tasks have neither.

    >>> hook = HOOKS.build(dict(type='ClassResultsHook'))
    >>> hook.results is None  # before anything was evaluated
    True
    """

    # Before RuntimeInfoHook, which hands the metrics to the log: a figure for each of 80 classes is for the file.
    priority = 'HIGHEST'

    def __init__(self) -> None:
        self.results: ClassResults | None = None
        self._training = False
        self._start()

    def _start(self) -> None:
        self._matrix: Tensor | None = None
        self._things = 'images'
        self._seen = 0

    def before_train(self, runner: Any) -> None:
        """Note that validation from here on belongs to a training."""
        self._training = True

    def before_val_epoch(self, runner: Any) -> None:
        """Start anew."""
        self._start()
        self._ask_metrics(runner, runner.val_loop)

    def before_test_epoch(self, runner: Any) -> None:
        """Start anew."""
        self._start()
        self._ask_metrics(runner, runner.test_loop)

    def _ask_metrics(self, runner: Any, loop: Any) -> None:
        """Have COCO metrics compute a figure for each class."""
        for metric in coco_metrics(loop):
            if not metric.classwise:
                metric.classwise = metric.unasked = True
                for handler in runner.logger.handlers:
                    if type(handler) is logging.StreamHandler and _of_log not in handler.filters:
                        handler.addFilter(_of_log)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Count pairs."""
        self._count(runner.val_loop, outputs)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Count pairs."""
        self._count(runner.test_loop, outputs)

    def _count(self, loop: Any, outputs: Sequence | None) -> None:
        for sample in outputs or []:
            place = self._seen * get_world_size() + get_rank()
            self._seen += 1
            found = pair_of(sample)
            # Samplers repeat samples until each process has as many.
            if found is None or place >= len(loop.dataloader.dataset):
                continue
            truth, predicted, classes, self._things = found
            classes = len(names_of(loop)) or classes
            if classes and classes > 1:
                matrix = count_pairs(truth, predicted, classes, ignored_by(loop)).cpu()
                self._matrix = matrix if self._matrix is None else self._matrix + matrix

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Put the results together and write them."""
        when = 'validation'
        if self._training:
            by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
            when += f' after epoch {runner.epoch}' if by_epoch else f' after iteration {runner.iter}'
        self._finish(runner, runner.val_loop, metrics, when)

    def after_test_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Put the results together, write and draw them."""
        self._finish(runner, runner.test_loop, metrics, 'test')
        self.draw(runner)

    @master_only
    def after_train(self, runner: Any) -> None:
        """Draw the last validation's results."""
        self.draw(runner)
        self._training = False

    def _finish(self, runner: Any, loop: Any, metrics: dict[str, Any] | None, when: str) -> None:
        matrices = [matrix for matrix in all_gather_object(self._matrix) if matrix is not None]
        self.results = None
        if matrices:
            matrix = torch.stack(matrices).sum(0)
            names = names_of(loop) or [str(i) for i in range(len(matrix))]
            self.results = ClassResults.of_matrix(matrix, names, self._things, when)
        for metric in coco_metrics(loop):
            self.results = take_precisions(metric, metrics, when) or self.results
        if self.results is not None and is_main_process():
            write_json(Path(runner.work_dir) / FILE, self.results.as_dict())

    @master_only
    def draw(self, runner: Any) -> None:
        """Write the figure, if there are results."""
        if self.results is not None:
            draw_classes(self.results, Path(runner.work_dir) / picture_name(self.results))


def picture_name(results: ClassResults) -> str:
    """Return the name of the figure."""
    return 'classes.png' if results.matrix is None else 'confusion.png'


def _of_log(record: logging.LogRecord) -> bool:
    return not TABLE_OF_CLASSES.match(record.getMessage())


def coco_metrics(loop: Any) -> list[Any]:
    """Return the metrics of a loop that may compute a figure for each class."""
    metrics = getattr(getattr(loop, 'evaluator', None), 'metrics', [])
    return [metric for metric in metrics if hasattr(metric, 'classwise') and hasattr(metric, 'cat_ids')]


def names_of(loop: Any) -> list[str]:
    """Return the names of the data set's classes; none if it has none."""
    meta = getattr(loop.dataloader.dataset, 'metainfo', None) or {}
    names = meta.get('classes') or ()
    return [str(name) for name in ([names] if isinstance(names, str) else names)]


def ignored_by(loop: Any) -> int | None:
    """Return the label that the loop's metrics ignore."""
    labels = (
        getattr(metric, 'ignore_index', None) for metric in getattr(getattr(loop, 'evaluator', None), 'metrics', [])
    )
    return next((label for label in labels if isinstance(label, int)), None)


def pair_of(sample: Any) -> tuple[Tensor, Tensor, int, str] | None:
    """Return truth and prediction of a sample, the number of classes if it tells, and what is counted.

    None where a sample has no single label and no label map.
    """
    if not hasattr(sample, '__contains__'):
        return None
    if 'gt_label' in sample and 'pred_score' in sample:
        truth, scores = torch.as_tensor(sample.gt_label).flatten(), torch.as_tensor(sample.pred_score).flatten()
        if truth.numel() == 1:
            return truth.cpu(), scores.argmax()[None].cpu(), scores.numel(), 'images'
    elif 'gt_sem_seg' in sample and 'pred_sem_seg' in sample:
        predicted = sample.pred_sem_seg.data.squeeze(0)
        truth = sample.gt_sem_seg.data.squeeze(0).to(predicted.device)
        if truth.shape == predicted.shape:
            return truth, predicted, 0, 'pixels'
    return None


def take_precisions(metric: Any, metrics: dict[str, Any] | None, when: str) -> ClassResults | None:
    """Return a COCO metric's figures by class, and take them out of the metrics unless the configuration wants them.

    Args:
        metric: mmdet's, with ``classwise`` set.
        metrics: all results of the evaluation, by name.
        when: the evaluation, in words.
    """
    names = [str(name) for name in (metric.dataset_meta or {}).get('classes', ())]
    keys = [f'{metric.prefix}/{name}_precision' if metric.prefix else f'{name}_precision' for name in names]
    found = metrics or {}
    if not any(key in found for key in keys):
        return None
    scores = [float(found.get(key, math.nan)) for key in keys]
    if getattr(metric, 'unasked', False):
        for key in keys:
            found.pop(key, None)
    return ClassResults(names, objects_of(metric, len(names)), scores, 'AP', 'objects', when=when)


def objects_of(metric: Any, classes: int) -> list[int]:
    """Return how many objects each class has; zeros where the metric does not tell."""
    api, ids = getattr(metric, '_coco_api', None), metric.cat_ids or []
    if api is None or len(ids) != classes:
        return [0] * classes
    return [len(api.getAnnIds(catIds=[each])) for each in ids]
