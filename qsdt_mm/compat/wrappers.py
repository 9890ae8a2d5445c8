"""Wrappers that libraries put around a network: parallel, averaging, compiling and test-time augmenting ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseAveragedModel, BaseTTAModel, is_model_wrapper
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .sharded import ATTRIBUTES

PLAIN = (str, bytes, int, float, complex, bool, type(None), type, nn.Module)
COLLECTIONS = (list, tuple, set, frozenset)
COMPILED = '_orig_mod'  # where torch.compile keeps the network; its class lies in a module that is slow to import


def is_compiled(model: nn.Module) -> bool:
    """Return whether ``torch.compile`` has wrapped a network."""
    return COMPILED in getattr(model, '_modules', ())


def _inner(model: nn.Module) -> nn.Module | None:
    """Return the content of a wrapper; None of a network."""
    if is_compiled(model):
        return model._modules[COMPILED]
    if is_model_wrapper(model) or isinstance(model, (BaseAveragedModel, BaseTTAModel, AveragedModel)):
        return model.module
    return None


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside all wrappers: (Distributed)DataParallel, mmengine's, averaged, compiled, TTA models."""
    while (inner := _inner(model)) is not None:
        model = inner
    return model


def rewrap(model: nn.Module, network: nn.Module) -> nn.Module:
    """Put a network where :func:`unwrap` found one, in place, and return the whole.

    Compiling wrappers are left out: their code is that of the old network.
    """
    inner = _inner(model)
    if inner is None:
        return network
    whole = rewrap(inner, network)
    if is_compiled(model):
        return whole
    model.module = whole
    return model


def whole_copy(model: nn.Module) -> nn.Module:
    """Return a deep copy of a network, in which results of its last training step belong to no graph any more.

    Heads of some libraries keep such tensors (CondInst's, YOLACT's), which torch does not copy.

    Raises:
        ValueError: it keeps one where it is not found.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        own = [value for name, value in vars(module).items() if not name.startswith(('_modules', *ATTRIBUTES))]
        for tensor in _tensors_in(own):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except RuntimeError as error:
        if 'graph leaves' not in str(error):
            raise
        kind = type(model).__name__
        raise ValueError(
            f'model={kind} is not allowed: expected one that keeps no result of a training step'
        ) from error


def _tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in lists, dicts and plain objects inside each other."""
    todo, seen = [value], {}
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, PLAIN) or callable(value):
            continue
        seen[id(value)] = value
        if isinstance(value, Mapping):
            todo += value.values()
        elif isinstance(value, COLLECTIONS):
            todo += value
        todo += getattr(value, '__dict__', {}).values()
    return [value for value in seen.values() if isinstance(value, Tensor)]


def bare_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the network inside all wrappers, in evaluation mode, that computes by its own methods.

    Compiled methods (mmengine's ``compile``) would go on computing with the network that they were made of.
    """
    network = whole_copy(unwrap(model))
    network.eval()  # what it returns is not always the network: there are models whose ``train`` returns nothing
    for module in network.modules():
        for name in [name for name, value in vars(module).items() if hasattr(value, '_torchdynamo_orig_callable')]:
            delattr(module, name)
        module._compiled_call_impl = None  # of nn.Module.compile
    return network
