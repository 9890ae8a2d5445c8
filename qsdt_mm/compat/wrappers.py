"""Wrappers that libraries put around a network: parallel, averaging, compiling and test-time augmenting ones."""

from __future__ import annotations

import copy

from mmengine.model import BaseAveragedModel, BaseTTAModel, is_model_wrapper
from torch import nn
from torch.optim.swa_utils import AveragedModel

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


def bare_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the network inside all wrappers, in evaluation mode, that computes by its own methods.

    Compiled methods (mmengine's ``compile``) would go on computing with the network that they were made of.
    """
    network = copy.deepcopy(unwrap(model)).eval()
    for module in network.modules():
        for name in [name for name, value in vars(module).items() if hasattr(value, '_torchdynamo_orig_callable')]:
            delattr(module, name)
        module._compiled_call_impl = None  # of nn.Module.compile
    return network
