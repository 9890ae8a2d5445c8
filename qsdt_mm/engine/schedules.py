"""Schedules and settings of optimizers when a run is resumed: the checkpoint's, or the configuration's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

from mmengine.optim import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS

from qsdt_mm.errors import CheckpointError

from .run_state import wrappers_of

# How an optimizer computes, not what; with the rest, what younger versions of torch add to older checkpoints.
WAYS = ('foreach', 'fused', 'capturable', 'differentiable')
ADDED = (*WAYS, 'maximize', 'decoupled_weight_decay')


def by_optimizer(schedules: Any) -> dict[str, Sequence]:
    """Return schedules, or what checkpoints hold of them, by optimizer; those of one alone under the empty name."""
    if schedules is None:
        return {'': []}
    return dict(schedules) if isinstance(schedules, Mapping) else {'': schedules}


def kinds(schedules: Any) -> dict[str, list[str]]:
    """Return the names of the classes of built schedules, by optimizer."""
    return {name: [type(one).__name__ for one in group] for name, group in by_optimizer(schedules).items()}


def named(names: Mapping[str, Sequence[str]] | None) -> str:
    """Return :func:`kinds` in words."""
    return ', '.join(dict.fromkeys(kind for group in (names or {}).values() for kind in group)) or 'none'


def settings_of(optim_wrapper: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the groups of each optimizer without their parameters: learning rate, weight decay and the like."""
    return {
        name: [{key: value for key, value in group.items() if key != 'params'} for group in wrapper.param_groups]
        for name, wrapper in wrappers_of(optim_wrapper).items()
    }


def put_back_settings(optim_wrapper: Any, settings: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Give the groups of each optimizer what :func:`settings_of` returned."""
    for name, wrapper in wrappers_of(optim_wrapper).items():
        for group, held in zip(wrapper.param_groups, settings[name]):
            for key in [key for key in group if key.startswith('initial_')]:
                del group[key]  # where schedules begin
            group.update(held)


def optimizer_kinds(optim_wrapper: Any) -> dict[str, str]:
    """Return the names of the classes of optimizers, by name."""
    return {name: type(wrapper.optimizer).__name__ for name, wrapper in wrappers_of(optim_wrapper).items()}


def check_optimizer(optim_wrapper: Any, held: Any, names: Mapping[str, str] | None, path: str) -> None:
    """Refuse a checkpoint's optimizer that is not of the configuration's kind.

    Args:
        optim_wrapper: of the configuration.
        held: ``optimizer`` of the checkpoint.
        names: :func:`optimizer_kinds` of the run that saved it, if it noted them.
        path: the file, for messages.

    Raises:
        CheckpointError: its optimizers, groups, numbers of parameters or settings have other names or sizes.
    """
    wrappers = wrappers_of(optim_wrapper)
    several = list(wrappers) != ['']
    reason = ''
    if several and (not isinstance(held, Mapping) or set(held) != set(wrappers)):
        reason = f'other optimizers ({", ".join(map(str, held))}) than the configuration ({", ".join(wrappers)})'
    for name, wrapper in wrappers.items() if not reason else ():
        state = held[name] if several else held
        groups = state.get('param_groups') if isinstance(state, Mapping) else None
        own = wrapper.optimizer.param_groups
        if not isinstance(groups, (list, tuple)):
            reason = 'no groups of parameters in its optimizer'
        elif [len(group['params']) for group in groups] != [len(group['params']) for group in own]:
            reason = f'{_sizes(groups)} in its optimizer, the configuration has {_sizes(own)}'
        else:
            kind = type(wrapper.optimizer).__name__
            known = set(wrapper.optimizer.defaults) - set(ADDED)
            lacking = sorted(key for key in known if any(key not in group for group in groups))
            if names is not None and names.get(name) != kind:
                reason = f'another optimizer than the configuration: {names.get(name)}, not {kind}'
            elif lacking:
                reason = f'another optimizer than the configuration: it lacks {", ".join(lacking)} of {kind}'
    if reason:
        raise CheckpointError(
            f'checkpoint {path} has {reason}: resume with its own optim_wrapper, or with --new-optimizer --new-schedule'
        )


def _sizes(groups: Sequence[Mapping[str, Any]]) -> str:
    number = len(groups)
    return f'{number} group{"s" * (number != 1)} of {sum(len(group["params"]) for group in groups)} parameters'


def _arguments(schedule: Any) -> set[str]:
    names: set[str] = set()
    for kind in type(schedule).__mro__:
        if '__init__' in vars(kind):
            names |= set(signature(kind.__init__).parameters)
    return names - {'self', 'optimizer', 'last_step', 'verbose', 'monitor', 'args', 'kwargs'}


def same_kinds(built: Any, held: Any, names: Any) -> bool:
    """Return whether a checkpoint's schedules are of the classes that the configuration has built.

    Args:
        built: by the configuration.
        held: ``param_schedulers`` of the checkpoint.
        names: :func:`kinds` of the run that saved it, if it noted them; else their attributes are compared.
    """
    ours, theirs = by_optimizer(built), by_optimizer(held)
    if names is not None:
        return kinds(built) == {name: list(group) for name, group in names.items()}
    return {name: [set(one.state_dict()) for one in group] for name, group in ours.items()} == {
        name: [set(one) for one in group] for name, group in theirs.items()
    }


def _registered(name: str) -> type | None:
    registries = [PARAM_SCHEDULERS, *PARAM_SCHEDULERS.children.values()]
    found = (registry.module_dict.get(name) for registry in registries)
    return next((kind for kind in found if isinstance(kind, type) and issubclass(kind, _ParamScheduler)), None)


def rebuild(optim_wrapper: Any, held: Any, names: Any, path: str) -> Any:
    """Return a checkpoint's own schedules, where the configuration has others.

    Raises:
        CheckpointError: it does not say of which classes they are, or one is not known.
    """
    groups, wrappers = by_optimizer(held), wrappers_of(optim_wrapper)
    made: dict[str, list] = {}
    for name, states in groups.items():
        classes = [_registered(str(kind)) for kind in (names or {}).get(name, [])]
        if len(classes) != len(states) or None in classes or name not in wrappers:
            raise CheckpointError(
                f'checkpoint {path} has other schedules than param_scheduler of the configuration, and does not say of '
                f'which kind: --new-schedule takes those of the configuration'
            )
        made[name] = []
        for kind, state in zip(classes, states):
            schedule = kind.__new__(kind)
            schedule.optimizer = wrappers[name]
            schedule.load_state_dict(state)
            made[name].append(schedule)
    return made if isinstance(held, Mapping) else made['']


def schedule_differences(built: Any, held: Any) -> list[str]:
    """List the arguments in which schedules of the same classes differ, ``T_max of CosineAnnealingLR 16 (not 32)``."""
    found: dict[str, None] = {}
    theirs = by_optimizer(held)
    for name, group in by_optimizer(built).items():
        for schedule, state in zip(group, theirs.get(name, ())):
            own = schedule.state_dict()
            for key in sorted(_arguments(schedule) & own.keys() & state.keys()):
                if own[key] != state[key]:
                    found[f'{key} of {type(schedule).__name__} is {state[key]!r}, not {own[key]!r}'] = None
    return list(found)


def setting_differences(optim_wrapper: Any, held: Any) -> list[str]:
    """List the settings in which a checkpoint's optimizer differs from the configuration's, before it is loaded."""
    found: dict[str, None] = {}
    wrappers = wrappers_of(optim_wrapper)
    for name, wrapper in wrappers.items():
        state = held if list(wrappers) == [''] else held[name]
        for own, group in zip(wrapper.optimizer.param_groups, state['param_groups']):
            for key in wrapper.optimizer.defaults:
                if key in WAYS or key not in group or (key == 'betas' and 'initial_momentum' in group):
                    continue
                ours, theirs = (settings.get(f'initial_{key}', settings.get(key)) for settings in (own, group))
                if list(_numbers(ours)) != list(_numbers(theirs)):
                    found[f'{key} is {theirs!r}, not {ours!r}'] = None
    return list(found)


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    else:
        yield value


def apply_last_values(schedules: Any, optim_wrapper: Any) -> None:
    """Give a new optimizer the values to which a checkpoint's schedules have come."""
    for name, group in by_optimizer(schedules).items():
        for schedule in group:
            values = getattr(schedule, '_last_value', None) or []
            for settings, value in zip(wrappers_of(optim_wrapper)[name].param_groups, values):
                settings[schedule.param_name] = value


def advance(schedules: Any, epochs: int, epoch_length: int, iterations: int) -> list[str]:
    """Step new schedules to where a run goes on.

    Args:
        schedules: as built, at their beginning.
        epochs: that are done.
        epoch_length: iterations in each of them.
        iterations: done after the last whole epoch.

    Returns:
        The classes of those that follow results and therefore begin anew.
    """
    anew: dict[str, None] = {}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of schedules that step before their optimizer
        for group in by_optimizer(schedules).values():
            follow = [one for one in group if getattr(one, 'need_val_args', False)]
            anew.update(dict.fromkeys(type(one).__name__ for one in follow))
            steady = [one for one in group if one not in follow]
            by_iteration = [one for one in steady if not one.by_epoch]
            by_epoch = [one for one in steady if one.by_epoch]
            for _ in range(epochs):
                _step(by_iteration, epoch_length)
                _step(by_epoch, 1)
            _step(by_iteration, iterations)
    return list(anew)


def _step(schedules: Sequence[Any], times: int) -> None:
    if schedules:
        for _ in range(times):
            for schedule in schedules:
                schedule.step()
