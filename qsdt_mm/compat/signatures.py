"""Arguments that a constructor takes, through the bases that it passes the rest on to."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn


def parameters_of(function: Callable) -> tuple[set[str], bool]:
    """Return the names that a function takes by keyword, and whether it takes any others."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return set(), True
    kinds = inspect.Parameter
    names = {
        name
        for name, p in signature.parameters.items()
        if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY) and name != 'self'
    }
    return names, any(p.kind is kinds.VAR_KEYWORD for p in signature.parameters.values())


def accepted_arguments(target: Any) -> tuple[set[str], bool]:
    """Return the keyword arguments of a class or function, through its bases while they pass ``**kwargs`` on.

    Returns:
        Their names, and whether others are taken too.
    """
    if hasattr(target, 'find'):  # imported on demand
        try:
            target = target.find()
        except ImportError:  # building it says what is missing
            return set(), True
    if not inspect.isclass(target):
        return parameters_of(target)
    names: set[str] = set()
    open_ended = False
    for cls in target.__mro__:
        if cls in (object, nn.Module) or '__init__' not in vars(cls):
            continue
        own, open_ended = parameters_of(vars(cls)['__init__'])
        names |= own
        if not open_ended:
            break
    return names, open_ended
