"""Rehearsal of an evaluation: one small batch is evaluated before a run begins."""

from __future__ import annotations

import contextlib
import copy
import difflib
import io
import random
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric, DumpResults, Evaluator
from mmengine.evaluator.metric import _to_cpu
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from torch import nn
from torch.utils.data import IterableDataset

from qsdt_mm.compat.noise import without_log
from qsdt_mm.compat.sharded import whole_parameters
from qsdt_mm.compat.wrappers import whole_copy
from qsdt_mm.errors import PACKAGE, InputError, is_own_fault, one_line

SAMPLES = 2
# What a metric raises because of how it was set up; other errors may come of there being so few samples.
SET_UP = (TypeError, KeyError, AttributeError, AssertionError, NotImplementedError)
LIBRARIES = ('mmengine', 'mmpretrain', 'mmdet', 'mmseg', PACKAGE.name)


class Names(NamedTuple):
    """Names of the results of an evaluation, and the prefixes of metrics whose names are not known.

    >>> names = Names(known=['accuracy/top1'], open=['coco'])
    >>> names.may_have('coco/bbox_mAP'), names.may_have('accuracy/top5')
    (True, False)
    """

    known: list[str]
    open: list[str | None]

    def may_have(self, name: str) -> bool:
        """Return whether there may be such a result."""
        return name in self.known or any(prefix is None or name.startswith(f'{prefix}/') for prefix in self.open)


@contextlib.contextmanager
def _unseen() -> Any:
    """Restore random numbers after the block, and keep its output back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        with without_log(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for put_back, state in zip((random.setstate, np.random.set_state, torch.set_rng_state), states):
            put_back(state)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)


def check_settings(evaluator: Any, model: nn.Module, num_classes: int | None) -> None:
    """Compare what metrics and heads say of the classes with how many the network tells apart.

    Raises:
        InputError: ``topk`` is larger, or ``num_classes`` another.
    """
    if num_classes is None:
        return
    for part in (*getattr(evaluator, 'metrics', []), *(m for m in model.modules() if hasattr(m, 'cal_acc'))):
        name, topk, told = type(part).__name__, getattr(part, 'topk', None), getattr(part, 'num_classes', None)
        numbers = topk if isinstance(topk, (list, tuple)) else [topk]
        largest = max((k for k in numbers if isinstance(k, int)), default=0)
        if largest > num_classes and getattr(part, 'cal_acc', True):
            raise InputError(f'topk={topk!r} of {name} is not allowed: the network has num_classes={num_classes}')
        if isinstance(part, BaseMetric) and isinstance(told, int) and told != num_classes:
            raise InputError(f'num_classes={told} of {name} does not fit: the network has num_classes={num_classes}')


def rehearse(loop: Any, model: nn.Module, what: str, num_classes: int | None = None) -> Names:
    """Evaluate a copy of the model on the first samples, with copies of the metrics; nothing is written.

    Args:
        loop: of validation or testing.
        model: the network.
        what: ``'validation'`` or ``'test'``, for messages.
        num_classes: that the network tells apart, if known.

    Returns:
        The names of the results, as far as they can be known.

    Raises:
        InputError: the network does not take the samples, or a metric does not take what it gives.
    """
    evaluator = loop.evaluator
    check_settings(evaluator, model, num_classes)
    metrics = list(getattr(evaluator, 'metrics', []))
    unknown = Names([], [getattr(metric, 'prefix', None) for metric in metrics] or [None])
    dataset = loop.dataloader.dataset
    if type(evaluator) is not Evaluator or isinstance(dataset, IterableDataset) or not hasattr(dataset, '__len__'):
        return Names([], [None])
    try:
        with whole_parameters(model):
            actor, plain = whole_copy(model), copy.deepcopy(metrics)
        actor.eval()
    except Exception:  # a model or a metric that cannot be copied is looked at when its turn comes
        return unknown
    with _unseen():
        loader = loop.dataloader
        try:
            number = min(loader.batch_size or 1, SAMPLES, len(dataset))
            batch = (loader.collate_fn or pseudo_collate)([dataset[i] for i in range(number)])
            with torch.no_grad():
                outputs = actor.val_step(batch) if what == 'validation' else actor.test_step(batch)
        except SET_UP as error:
            if is_own_fault(error):
                raise
            raise InputError(f'the network cannot take the {what} data: {one_line(error)}') from error
        except (IndexError, ZeroDivisionError, RuntimeError):
            return unknown
        known: list[str] = []
        open_: list[str | None] = []
        for metric in plain:
            if isinstance(metric, DumpResults):
                continue
            names = _result_names(metric, batch, outputs, what)
            known += names or []
            ours = type(metric).__module__.partition('.')[0] in LIBRARIES
            if not (names and ours):  # a stranger's results may depend on the data
                open_.append(metric.prefix)
    return Names(known, open_)


def _result_names(metric: BaseMetric, batch: Any, outputs: Iterable, what: str) -> list[str] | None:
    """Return the names of a metric's results, None if it computes them in a way of its own."""
    if type(metric).evaluate is not BaseMetric.evaluate or getattr(metric, 'format_only', False):
        return None
    for name in ('outfile_prefix', 'output_dir', 'out_file_path'):
        if getattr(metric, name, None) is not None:
            setattr(metric, name, None)
    samples = [sample.to_dict() if hasattr(sample, 'to_dict') else sample for sample in outputs]
    try:
        metric.process(batch, samples)
        computed = metric.compute_metrics(_to_cpu(metric.results))
    except SET_UP as error:
        if is_own_fault(error):
            raise
        raise InputError(f'the {what} metric {type(metric).__name__} cannot be computed: {one_line(error)}') from error
    except Exception:  # of few samples, perhaps
        return None
    return [f'{metric.prefix}/{key}' if metric.prefix else key for key in computed or {}]


def monitored(runner: Any, schedulers: Any = None) -> dict[str, str]:
    """Return the results that hooks and schedules look for, each with its users.

    Args:
        runner: mmengine's.
        schedulers: the configuration's ``param_scheduler``.
    """
    found: dict[str, str] = {}
    for hook in runner.hooks:
        name = type(hook).__name__
        if isinstance(hook, CheckpointHook):
            found.update({key: f'save_best of {name}' for key in hook.save_best or [] if key != 'auto'})
        elif isinstance(hook, EarlyStoppingHook):
            found[hook.monitor] = f'monitor of {name}'
        elif name == 'LearningCurvesHook':
            found.update(dict.fromkeys(hook.metrics or [], f'metrics of {name}'))
    for config in schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]:
        on_plateau = isinstance(config, Mapping) and 'ReduceOnPlateau' in str(config.get('type'))
        if on_plateau and config.get('by_epoch', True):
            found[config.get('monitor', 'loss')] = f'monitor of {config["type"]}'
    return found


def restore_monitors(runner: Any, schedulers: Any) -> None:
    """Let resumed schedules look for what the configuration says now, not for what the checkpoint says."""
    built = runner.param_schedulers
    if isinstance(built, list) and isinstance(schedulers, (list, tuple)) and len(built) == len(schedulers):
        for scheduler, config in zip(built, schedulers):
            same = isinstance(config, Mapping) and type(scheduler).__name__ in str(config.get('type'))
            if same and hasattr(scheduler, 'monitor'):
                scheduler.monitor = config.get('monitor', 'loss')


def _absent(key: str, who: str, names: Iterable[str]) -> str:
    names = list(names)
    shown = ', '.join(difflib.get_close_matches(key, names, n=3, cutoff=0.4) or names[:6]) or 'none'
    return f'{who}: no metric of the validation gives {key!r}; there is {shown}'


def check_monitored(wanted: Mapping[str, str], names: Names) -> None:
    """Refuse a result that no metric can give.

    Raises:
        InputError: there is one; the line names results that there are.
    """
    for key, who in wanted.items():
        if not names.may_have(key):
            raise InputError(_absent(key, who, [*names.known, *(f'{prefix}/...' for prefix in names.open if prefix)]))


class MonitorHook(Hook):
    """Stop at the first validation that lacks a result which a hook or a schedule looks for, with a checkpoint saved.

    Args:
        wanted: the results, and who looks for them.

    >>> from types import SimpleNamespace
    >>> runner = SimpleNamespace(hooks=[], message_hub=SimpleNamespace(runtime_info={}))
    >>> hook = MonitorHook({'accuracy/top1': 'save_best of CheckpointHook'})
    >>> hook.after_val_epoch(runner, {'accuracy/top5': 98.0})
    Traceback (most recent call last):
        ...
    qsdt_mm.errors.InputError: save_best of CheckpointHook: no metric of the validation gives 'accuracy/top1'; there
    is accuracy/top5
    """

    priority = 'BELOW_NORMAL'  # when averaged weights have been put back, before schedules and checkpoints

    def __init__(self, wanted: Mapping[str, str]) -> None:
        self.wanted = dict(wanted)

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Compare."""
        missing = [key for key in self.wanted if metrics and key not in metrics]
        if not missing:
            return
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                step = runner.epoch if hook.by_epoch else runner.iter
                path = hook.file_backend.join_path(hook.out_dir, hook.filename_tmpl.format(step))
                if hook.last_ckpt != path:
                    hook._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter))
                break
        last = runner.message_hub.runtime_info.get('last_ckpt')
        text = _absent(missing[0], self.wanted[missing[0]], metrics or {})
        raise InputError(text + (f'; correct it and go on with --resume {last}' if last else ''))
