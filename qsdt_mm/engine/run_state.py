"""State of a run besides weights, optimizer and schedules: gradients under way, counts, and what hooks remember."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dist import gather_object, get_rank, get_world_size
from mmengine.hooks import EarlyStoppingHook, Hook
from torch import Tensor, nn

from qsdt_mm.compat.sharded import like_part, local_part
from qsdt_mm.compat.wrappers import unwrap

# Attributes of other libraries' modules that change while they train and that are no buffers.
PLAIN_ATTRIBUTES = {'BatchSyncRandomResize': ('_input_size',)}


def wrappers_of(optim_wrapper: Any) -> dict[str, Any]:
    """Return the optimizer wrappers by name; one alone has the empty name."""
    return dict(optim_wrapper.items()) if hasattr(optim_wrapper, 'items') else {'': optim_wrapper}


def optimized(runner: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """Return the parameters that an optimizer changes, by name."""
    taken = {
        id(parameter)
        for wrapper in wrappers_of(runner.optim_wrapper).values()
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }
    return ((name, p) for name, p in unwrap(runner.model).named_parameters() if id(p) in taken)


def gradients(runner: Any) -> dict[str, Tensor | int]:
    """Return the gradients that wait for the next step of their optimizer, by parameter; 0 stands for one of zeros.

    Of sharded ones, the parts that this process has.
    """
    held = {name: local_part(p.grad.detach()).cpu() for name, p in optimized(runner) if p.grad is not None}
    return {name: value if value.is_sparse or value.any() else 0 for name, value in held.items()}


def put_back_gradients(runner: Any, held: Mapping[str, Any]) -> None:
    """Give parameters the gradients that :func:`gradients` returned."""
    for name, parameter in optimized(runner):
        value = held.get(name)
        if value is None:
            parameter.grad = None
        elif isinstance(value, Tensor):
            parameter.grad = like_part(value, parameter)
        else:
            parameter.grad = torch.zeros_like(parameter)


def own_buffers(runner: Any) -> dict[str, Tensor]:
    """Return the floating buffers of a process's own network that checkpoints hold, such as statistics of norms."""
    state = unwrap(runner.model).state_dict()
    names = {name for name, _ in unwrap(runner.model).named_buffers()}
    return {name: value.cpu() for name, value in state.items() if name in names and value.is_floating_point()}


def of_each_process(runner: Any) -> list[dict[str, dict]]:
    """Return gradients and, where there are several processes, buffers of each; all processes call it together.

    Of buffers, those are left out that are the first process's too, for that is whose network a checkpoint holds.
    Processes besides the first get none.
    """
    mine = dict(gradients=gradients(runner))
    if get_world_size() == 1:
        return [mine]
    states = gather_object(dict(mine, buffers=own_buffers(runner)))
    if states is None:
        return []
    first, *others = (state['buffers'] for state in states)
    for buffers in others:
        for name in [name for name in buffers if torch.equal(buffers[name], first[name])]:
            del buffers[name]
    first.clear()
    return states


def put_back_process(runner: Any, states: list[Mapping[str, Any]]) -> bool:
    """Give this process what it held; return whether the states are those of as many processes as there are now."""
    if len(states) != get_world_size():
        return False
    mine = states[get_rank()]
    put_back_gradients(runner, mine.get('gradients', {}))
    buffers = dict(unwrap(runner.model).named_buffers())
    for name, value in mine.get('buffers', {}).items():
        if name in buffers:
            buffers[name].copy_(value)
    return True


def counts(runner: Any) -> dict[str, dict[str, int]]:
    """Return, by optimizer, how many gradients it has seen, and how many make a step."""
    return {
        name: dict(seen=wrapper._inner_count, step=wrapper._accumulative_counts)
        for name, wrapper in wrappers_of(runner.optim_wrapper).items()
        if hasattr(wrapper, '_inner_count')
    }


def same_steps(runner: Any, held: Mapping[str, Mapping[str, int]]) -> bool:
    """Return whether as many gradients make a step of each optimizer as when :func:`counts` was taken."""
    return {name: entry['step'] for name, entry in held.items()} == {
        name: entry['step'] for name, entry in counts(runner).items()
    }


def put_back_counts(runner: Any, held: Mapping[str, Mapping[str, int]]) -> None:
    """Go on counting gradients where :func:`counts` was taken."""
    for name, wrapper in wrappers_of(runner.optim_wrapper).items():
        if name in held:
            wrapper._inner_count = held[name]['seen']


def is_plain(value: Any) -> bool:
    """Return whether a value can be in a checkpoint that is loaded as data."""
    if isinstance(value, Mapping):
        return type(value) is dict and all(is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple, set)):
        return type(value) in (list, tuple, set) and all(is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str, Tensor)


def _numbered(hooks: list[Hook]) -> Iterator[tuple[str, Hook]]:
    seen: dict[str, int] = {}
    for hook in hooks:
        name = type(hook).__name__
        seen[name] = seen.get(name, 0) + 1
        yield f'{name}.{seen[name]}', hook


def hook_states(runner: Any) -> dict[str, Any]:
    """Return what hooks remember, by hook: the counts of early stopping, and what a hook's ``state_dict`` returns."""
    found = {}
    for name, hook in _numbered(runner.hooks):
        if callable(getattr(hook, 'state_dict', None)) and callable(getattr(hook, 'load_state_dict', None)):
            state = hook.state_dict()
        elif isinstance(hook, EarlyStoppingHook):
            names = ('monitor', 'rule', 'wait_count', 'best_score', 'patience', 'stopping_threshold')
            state = {key: getattr(hook, key) for key in names}
            state['best_score'] = float(hook.best_score)
        else:
            continue
        if is_plain(state):
            found[name] = state
        else:
            runner.logger.warning(
                f'state_dict of {type(hook).__name__} holds other things than tensors, numbers, words and containers '
                'of them: it is not saved, a resumed run will not have it'
            )
    return found


def put_back_hooks(runner: Any, held: Mapping[str, Any], stopped: bool) -> None:
    """Let hooks remember what :func:`hook_states` returned, and training stay stopped if it would still be."""
    for name, hook in _numbered(runner.hooks):
        state = held.get(name)
        if state is None:
            continue
        if not isinstance(hook, EarlyStoppingHook) or hasattr(hook, 'load_state_dict'):
            hook.load_state_dict(state)
        elif (state['monitor'], state['rule']) == (hook.monitor, hook.rule):
            hook.wait_count, hook.best_score = state['wait_count'], state['best_score']
            # more patience than then, or another threshold, is a wish to go on
            stopped &= hook.patience <= state['patience'] and hook.stopping_threshold == state['stopping_threshold']
        else:
            stopped = False
    if stopped and hasattr(runner.train_loop, 'stop_training'):
        runner.train_loop.stop_training = True


def plain_attributes(runner: Any) -> dict[str, dict[str, Any]]:
    """Return what modules of other libraries (``PLAIN_ATTRIBUTES``) keep beside their buffers, by module."""
    return {
        name: {
            key: value
            for key in PLAIN_ATTRIBUTES[type(module).__name__]
            if is_plain(value := getattr(module, key, None))
        }
        for name, module in unwrap(runner.model).named_modules()
        if type(module).__name__ in PLAIN_ATTRIBUTES
    }


def put_back_attributes(runner: Any, held: Mapping[str, Mapping[str, Any]]) -> None:
    """Give modules what :func:`plain_attributes` returned."""
    for name, module in unwrap(runner.model).named_modules():
        for key in PLAIN_ATTRIBUTES.get(type(module).__name__, ()):
            if key in held.get(name, {}):
                setattr(module, key, held[name][key])
