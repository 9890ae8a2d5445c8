"""Length of a training and its schedule of learning rates: stretched together, or a word where one cuts the other."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Mapping
from typing import Any

from qsdt_mm.compat.noise import without_log
from qsdt_mm.errors import InputError, require_positive_int

NUMBERS = ('begin', 'end', 'T_max', 'step_size', 'total_steps')
"""Arguments of mmengine's schedulers that are a number of epochs or iterations."""
LISTS = ('milestones', 'periods')
"""Those that are lists of such numbers."""
SWITCHES = ('switch_epoch', 'num_last_epochs', 'begin_epoch')
"""Arguments of hooks that are a number of epochs."""
STEPS = 2000
"""Steps of a schedule that is tried, at most."""


def length_key(cfg: Any) -> str:
    """Return the key in ``train_cfg`` that says how long a configuration trains.

    >>> length_key(dict(train_cfg=dict(by_epoch=True, max_epochs=12)))
    'max_epochs'
    """
    train = cfg.get('train_cfg') or {}
    return 'max_epochs' if train.get('max_iters') is None else 'max_iters'


def schedulers_of(cfg: Any) -> list[dict]:
    """Return the schedulers of a configuration that are dicts, those of learning rates and the others."""
    given = cfg.get('param_scheduler')
    parts = list(given.values()) if isinstance(given, Mapping) and 'type' not in given else given
    flat: list[Any] = []
    for part in parts if isinstance(parts, (list, tuple)) else [parts]:
        flat += part if isinstance(part, (list, tuple)) else [part]
    return [part for part in flat if isinstance(part, Mapping)]


def counted_alike(scheduler: Mapping, key: str) -> bool:
    """Return whether a scheduler's numbers count what ``key`` does, epochs or iterations."""
    return bool(scheduler.get('by_epoch', True)) == (key == 'max_epochs')


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        return value
    return max(1, round(value * factor))


def scale(scheduler: dict, factor: float) -> None:
    """Stretch a scheduler in place.

    >>> scheduler = dict(type='MultiStepLR', milestones=[8, 11], end=12)
    >>> scale(scheduler, 0.5)
    >>> scheduler
    {'type': 'MultiStepLR', 'milestones': [4, 5], 'end': 6}
    """
    parts = scheduler.get('convert_to_iter_based')  # mmengine takes parts of epochs then
    for name in NUMBERS:
        if name in scheduler:
            value, whole = scheduler[name], _scaled(scheduler[name], factor)
            exact = round(value * factor, 4) if parts and name in ('begin', 'end', 'T_max') else whole
            scheduler[name] = whole if exact == whole else exact
    begin, end = scheduler.get('begin', 0), scheduler.get('end')
    for name in LISTS:
        if isinstance(scheduler.get(name), (list, tuple)):
            scaled = [_scaled(value, factor) for value in scheduler[name]]
            if name == 'milestones' and isinstance(end, int):  # rounded up to the end, they would change nothing
                scaled = [max(1, min(value, end - 1)) for value in scaled]
            scheduler[name] = scaled
    if (
        isinstance(begin, (int, float)) and isinstance(end, (int, float)) and end <= begin
    ):  # of so short a run nothing is left for it
        scheduler['end'] = begin + 1


def stretch(cfg: Any, length: int, option: str) -> str:
    """Let a configuration train for ``length`` epochs or iterations, with its schedule stretched, in place.

    What counts otherwise than the run, as a warm-up of 500 iterations in a run of epochs, stays as it is.

    Args:
        cfg: the configuration.
        length: epochs or iterations.
        option: that was given, ``--epochs`` or ``--iters``.

    Returns:
        What was done, in a line.

    Raises:
        InputError: the run counts the other, or ``length`` is no positive number.
    """
    key, wanted = length_key(cfg), f'max_{option.removeprefix("--")}'
    before = (cfg.get('train_cfg') or {}).get(key)
    if key != wanted or not isinstance(before, int) or before < 1:
        counted, other = ('iterations', '--iters') if key == 'max_iters' else ('epochs', '--epochs')
        raise InputError(f'{option} {length}: this run counts {counted} (train_cfg.{key}={before}): use {other}')
    try:
        require_positive_int(option, length)
    except ValueError as error:
        raise InputError(str(error)) from error
    factor = length / before
    unit = key.removeprefix('max_').replace('iters', 'iterations')
    changed = [scheduler for scheduler in schedulers_of(cfg) if counted_alike(scheduler, key)]
    for scheduler in changed:
        scale(scheduler, factor)
    for hook in cfg.get('custom_hooks') or []:
        if isinstance(hook, dict) and key == 'max_epochs':
            hook.update({name: _scaled(hook[name], factor) for name in SWITCHES if name in hook})
    cfg.train_cfg[key] = length
    kept = ', with a schedule as long' if changed else '; the schedule has nothing to stretch'
    return f'{length} {unit if length > 1 else unit[:-1]} in place of {before}{kept}'


def without_empty(schedulers: Any, loop: Any) -> Any:
    """Return schedulers without those that begin and end within one iteration, which mmengine refuses.

    Args:
        schedulers: of a runner, not built yet.
        loop: of the training.
    """
    if not isinstance(schedulers, list):
        return schedulers
    batches = len(loop.dataloader)

    def empty(scheduler: Any) -> bool:
        if not (isinstance(scheduler, Mapping) and scheduler.get('convert_to_iter_based')):
            return False
        begin, end = scheduler.get('begin', 0), scheduler.get('end')
        parts = isinstance(begin, float) or isinstance(end, float)  # of epochs, as stretching makes them
        return (
            parts
            and all(isinstance(n, (int, float)) and n < math.inf for n in (begin, end))
            and int(begin * batches) >= int(end * batches)
        )

    return [scheduler for scheduler in schedulers if not empty(scheduler)]


def end_of(cfg: Any) -> int | None:
    """Return the epoch or iteration at which the schedule has come to its end; None if it names none."""
    key, ends = length_key(cfg), []
    for scheduler in schedulers_of(cfg):
        if not counted_alike(scheduler, key):
            continue
        begin, end = scheduler.get('begin', 0), scheduler.get('end')
        if not isinstance(begin, (int, float)):  # what is wrong with it, who builds it says
            continue
        lengths = (scheduler.get('T_max'), scheduler.get('total_steps'))
        last = [end, *(begin + value for value in lengths if isinstance(value, (int, float)) and value)]
        marks = scheduler.get('milestones')
        last += [marks[-1]] if isinstance(marks, (list, tuple)) and marks else []
        numbers = [math.ceil(value) for value in last if isinstance(value, (int, float)) and value < math.inf]
        # Without an end of its own, a cosine comes down to T_max.
        ends += numbers[:1] if isinstance(end, (int, float)) else numbers
    return max(ends, default=None)


def _is_of_rates(scheduler: Mapping) -> bool:
    kind = scheduler.get('type')
    return str(getattr(kind, '__name__', kind)).endswith('LR')


def rates(cfg: Any, lengths: list[int]) -> list[float] | None:
    """Return the learning rate after so many epochs or iterations, for each; None if it cannot be foretold.

    A small schedule of the same shape is run for it, on one parameter.
    """
    import torch
    from mmengine.optim import OptimWrapper
    from mmengine.registry import PARAM_SCHEDULERS, DefaultScope

    optimizer = ((cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('lr')
    end, key = max(lengths), length_key(cfg)
    if not isinstance(optimizer, (int, float)) or end < 1:
        return None
    ratio = STEPS / end
    wrapper = OptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=float(optimizer)))
    try:
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')), without_log(logging.WARNING):
            built = []
            for scheduler in schedulers_of(cfg):
                if not (_is_of_rates(scheduler) and counted_alike(scheduler, key)):
                    continue
                scheduler = dict(copy.deepcopy(scheduler), by_epoch=False)
                continuous = key == 'max_iters' or scheduler.pop('convert_to_iter_based', False)
                scheduler.pop('convert_to_iter_based', None)
                scheduler.setdefault('end', end)
                if continuous:
                    scale(scheduler, ratio)
                built.append((continuous, PARAM_SCHEDULERS.build(dict(scheduler, optimizer=wrapper))))
            seen: dict[int, float] = {}
            places = {max(round(length * ratio), 1): length for length in lengths}
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                for step in range(1, STEPS + 1):
                    if step in places:  # the rate of the last iteration of that length
                        seen[places[step]] = wrapper.param_groups[0]['lr']
                    for continuous, scheduler in built:
                        if continuous or math.floor(step / ratio) > math.floor((step - 1) / ratio):
                            scheduler.step()
    except Exception:  # a scheduler of somebody's own, or one that waits for a result
        return None
    return [seen[length] for length in lengths] if built and set(lengths) <= set(seen) else None


def cut_short(cfg: Any) -> str | None:
    """Say that a training ends before its schedule does, and at which learning rate; None if it does not."""
    key = length_key(cfg)
    length, end = (cfg.get('train_cfg') or {}).get(key), end_of(cfg)
    if not isinstance(length, int) or end is None or not 0 < length < end:
        return None
    unit, option = ('epoch', '--epochs') if key == 'max_epochs' else ('iteration', '--iters')
    found = rates(cfg, [length, end])
    if found is not None and math.isclose(*found, rel_tol=1e-3):
        return None
    said = '' if found is None else f': the last learning rate is {found[0]:.2g}, not {found[1]:.2g}'
    return (
        f'the schedule ends at {unit} {end}, training at {length}{said} ({option} {length} without train_cfg.{key} '
        'stretches the schedule)'
    )
