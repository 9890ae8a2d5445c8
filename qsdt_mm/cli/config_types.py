"""Lists in a configuration become tuples where only a tuple is taken: options, YAML and JSON know lists only."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from .cfg_options import resolve_type

UNFIT = object()


def fitted(value: Any, hint: Any) -> Any:
    """Fit a value to an annotation, lists turned into tuples where need be; return ``UNFIT`` if it does not fit."""
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint in (Any, inspect.Parameter.empty) or isinstance(hint, typing.TypeVar):
        return value
    if origin in (typing.Union, types.UnionType):
        found = [one for kind in inner if (one := fitted(value, kind)) is not UNFIT]
        return next((one for one in found if _same(one, value)), found[0] if found else UNFIT)
    if origin is tuple and isinstance(value, (list, tuple)):
        if len(inner) == 2 and inner[1] is Ellipsis:
            inner = (inner[0],) * len(value)
        items = [fitted(item, kind) for item, kind in zip(value, inner or [Any] * len(value))]
        whole = len(value) == len(inner) or not inner
        return tuple(items) if whole and UNFIT not in items else UNFIT
    if isinstance(value, (list, tuple)):
        if not (isinstance(origin, type) and isinstance(value, origin)):
            return UNFIT
        items = [fitted(item, inner[0] if inner else Any) for item in value]
        return type(value)(items) if UNFIT not in items else UNFIT
    if hint is None or hint is type(None):
        return value if value is None else UNFIT
    if hint is float:
        return value if isinstance(value, (int, float)) else UNFIT
    return value if isinstance(origin, type) and isinstance(value, origin) else UNFIT


def _same(a: Any, b: Any) -> bool:
    """Compare two values, lists and tuples told apart."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


@functools.cache
def _annotations(target: Any) -> dict[str, Any]:
    """Return the annotations of the arguments of a class's constructors, or of a function."""
    if hasattr(target, 'find'):  # imported on demand
        try:
            target = target.find()
        except ImportError:
            return {}
    makers = [vars(c).get('__init__') for c in target.__mro__] if inspect.isclass(target) else [target]
    found: dict[str, Any] = {}
    for maker in makers:
        if maker in (None, object.__init__, nn.Module.__init__):
            continue
        try:
            hints = typing.get_type_hints(maker)
        except Exception:  # names that exist for a type checker only
            continue
        for name, hint in hints.items():
            found.setdefault(name, hint)
    return found


def _has_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, (int, float, str, list, tuple)) for item in value)


def tuples_where_wanted(config: Any, scope: str | None, before: Any = None) -> None:
    """Turn lists into tuples, in place, where the class that a dict names as ``type`` takes a tuple and no list.

    Args:
        config: a configuration, or a part of one.
        scope: its default scope.
        before: the same before options changed it; where an argument has no annotation and was a tuple, it stays one.
    """
    if isinstance(config, Mapping):
        lists = [key for key in config if _has_list(config[key])]
        hints: list[dict] = []
        if lists and 'type' in config:
            hints = [_annotations(target) for target in resolve_type(config['type'], config.get('_scope_', scope))]
        for key in config:
            old = before.get(key) if isinstance(before, Mapping) else None
            known = [hint[key] for hint in hints if key in hint]
            if key in lists and known:
                value = fitted(config[key], known[0])
                if value is not UNFIT and not _same(value, config[key]):
                    config[key] = value
            elif key in lists and isinstance(old, tuple):
                config[key] = tuple(config[key])
            tuples_where_wanted(config[key], scope, old)
    elif isinstance(config, Sequence) and not isinstance(config, str):
        old = before if isinstance(before, (list, tuple)) and len(before) == len(config) else [None] * len(config)
        for item, other in zip(config, old):
            tuples_where_wanted(item, scope, other)
