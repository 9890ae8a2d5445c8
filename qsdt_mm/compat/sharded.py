"""Parameters that are spread over processes (``DTensor``), as torch's ``fully_shard`` leaves them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

STATE_HOOKS = ('_state_dict_pre_hooks', '_load_state_dict_pre_hooks', '_load_state_dict_post_hooks')
HOOKS = (*STATE_HOOKS, '_forward_pre_hooks', '_forward_hooks')
OF_TORCH = 'torch.distributed.fsdp'
ATTRIBUTES = ('__deepcopy__', '__composable_api_state_key', '_is_fsdp_managed_module', '_fsdp_use_orig_params')
"""Attributes of modules that ``fully_shard`` and :func:`let_copy` add, by the beginning of the name."""


def is_sharded(tensor: Any) -> bool:
    """Return whether a tensor is a ``DTensor``, of which a process holds a part."""
    module = sys.modules.get('torch.distributed.tensor')  # slow to import; without it there are none
    return module is not None and isinstance(tensor, module.DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds: all of it, unless it is sharded."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor of which processes hold parts, together; return another as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def sharded_like(value: Tensor, model: Tensor) -> Tensor:
    """Spread the first process's tensor over processes as ``model`` is; all of them call it together."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.detach().to(model.device), model.device_mesh, model.placements)


def like_part(part: Tensor, model: Tensor) -> Tensor:
    """Return a tensor of which each process gives its part, spread as ``model`` is; a part itself if that is plain."""
    part = part.to(model.device, copy=True)
    if not is_sharded(model):
        return part
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        part, model.device_mesh, model.placements, run_check=False, shape=model.shape, stride=model.stride()
    )


@contextmanager
def whole_parameters(*networks: nn.Module, to_save: bool = False) -> Iterator[None]:
    """Give networks whole parameters in place of sharded ones within the context; all processes enter it together.

    When it ends without an error, each process takes its part of the values that the first process leaves. Networks
    without sharded parameters are left alone.

    Args:
        networks: those whose parameters, or whose modules' parameters, are sharded.
        to_save: the values are only read, and only by the first process, which gets them on the CPU.
    """
    wholes: dict[int, nn.Parameter] = {}
    held: list[tuple[nn.Module, str, nn.Parameter]] = []
    hooks: list[tuple[nn.Module, str, dict]] = []
    with torch.no_grad():
        for module in (module for network in networks for module in network.modules()):
            for name, parameter in module._parameters.items():
                if not is_sharded(parameter):
                    continue
                if id(parameter) not in wholes:
                    wholes[id(parameter)] = _whole(parameter, to_save)
                held.append((module, name, parameter))
        for module, name, parameter in held:
            module._parameters[name] = wholes[id(parameter)]
    # Torch's would take the whole parameters, once loaded, for sharded ones.
    for module in {id(module): module for module, _, _ in held}.values():
        for name in STATE_HOOKS:
            hooks.append((module, name, module.__dict__[name]))
            module.__dict__[name] = _without_torchs(module.__dict__[name])
    try:
        yield
    finally:
        for module, name, parameter in held:
            module._parameters[name] = parameter
        for module, name, value in hooks:
            module.__dict__[name] = value
    if to_save:
        return
    with torch.no_grad():
        for parameter in {id(parameter): parameter for _, _, parameter in held}.values():
            value = sharded_like(wholes[id(parameter)], parameter)
            local_part(parameter).copy_(local_part(value))


def _whole(parameter: Tensor, to_save: bool) -> Tensor:
    value = whole(parameter.detach())
    if to_save:
        value = value.cpu() if dist.get_rank() == 0 else value.new_empty(0)
    return nn.Parameter(value, parameter.requires_grad) if isinstance(parameter, nn.Parameter) else value


@contextmanager
def whole_states(*optimizers: torch.optim.Optimizer) -> Iterator[None]:
    """Give optimizers whole states in place of sharded ones within the context, to save them.

    The first process gets them, on the CPU; all processes enter together.
    """
    held = [
        (state, name, value)
        for optimizer in optimizers
        for state in optimizer.state.values()
        for name, value in state.items()
        if is_sharded(value)
    ]
    for state, name, value in held:
        state[name] = _whole(value, to_save=True)
    try:
        yield
    finally:
        for state, name, value in held:
            state[name] = value


def shard_states(optimizer: torch.optim.Optimizer) -> None:
    """Spread whole states that an optimizer has loaded over processes as their parameters are; all call it together.

    Raises:
        ValueError: a state has another shape than its parameter: how it is spread is not known.
    """
    for parameter, state in optimizer.state.items():
        if not is_sharded(parameter):
            continue
        for name, value in state.items():
            if not isinstance(value, Tensor) or value.dim() == 0 or is_sharded(value):
                continue
            if value.shape != parameter.shape:
                kind = type(optimizer).__name__
                raise ValueError(
                    f'{name}={tuple(value.shape)} of {kind} is not allowed: expected the shape of its parameter, '
                    f'{tuple(parameter.shape)}, where parameters are sharded'
                )
            state[name] = sharded_like(value, parameter)


def let_copy(network: nn.Module) -> None:
    """Let ``copy.deepcopy`` copy a network after ``fully_shard``, in place: the copy's modules gather nothing.

    It computes where parameters are whole (:func:`whole_parameters`) when the copy is made; otherwise it has the same
    parts of parameters as the network, and holds averages of them, say.
    """
    for module in network.modules():
        if _is_fsdp(type(module)):
            module.__dict__['__deepcopy__'] = _Copier(module)


def gather(network: nn.Module) -> None:
    """Let a network after ``fully_shard`` be run by its ``forward``, which gathers nothing for the network itself."""
    if _is_fsdp(type(network)):
        network.unshard()


def _is_fsdp(kind: type) -> bool:
    return any(base.__name__ == 'FSDPModule' and base.__module__.startswith(OF_TORCH) for base in kind.__mro__)


class _Copier:
    """Method that ``copy.deepcopy`` calls in place of torch's, which refuses."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, memo: dict[int, Any]) -> nn.Module:
        kind = next(base for base in type(self.module).__mro__[1:] if base.__name__ != 'FSDPModule')
        new = memo[id(self.module)] = kind.__new__(kind)
        for name, value in self.module.__dict__.items():
            if not name.startswith(ATTRIBUTES):
                new.__dict__[name] = copy.deepcopy(_without_torchs(value) if name in HOOKS else value, memo)
        return new


def _without_torchs(hooks: dict) -> dict:
    def is_torchs(hook: Any) -> bool:
        return (getattr(getattr(hook, 'hook', hook), '__module__', None) or '').startswith(OF_TORCH)

    return type(hooks)((key, hook) for key, hook in hooks.items() if not is_torchs(hook))
