"""Whole configurations as plain data in packed folders, and back: data, tests and training, and nothing that is run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry

from qsdt_mm.compat.distributions import needed
from qsdt_mm.compat.noise import without_noise
from qsdt_mm.errors import InputError, require
from qsdt_mm.fileio.atomic import PathLike
from qsdt_mm.fileio.folders import packed_settings

from .networks import DEEPEST, FILES_TO_START_FROM, LIBRARIES, SCOPES, check_config, registered_names, scopes_in

KEPT = (
    *('train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator'),
    *('train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'auto_scale_lr', 'param_scheduler', 'data_preprocessor'),
    *('default_hooks', 'custom_hooks', 'visualizer', 'log_processor', 'tta_model', 'tta_pipeline', 'env_cfg'),
    *('log_level', 'randomness'),
)
"""Keys of a configuration that a folder keeps, besides the network and its scope; others read files or run code."""
PARTS = ('models', 'datasets', 'evaluation', 'engine', 'visualization')
TUPLE = 'tuple'
LARGEST_NUMBER = 2**53
LONGEST_WORD = 1000
WRITES = re.compile(r'(out|output|outfile|save|dump|work|log|trace|json|result)\w*(dir|path|prefix|file)|filename')
"""Arguments that name what is to be written."""
OWN_FILES = ('LearningCurvesHook', 'PredictionGridHook')
"""Hooks whose files stay inside the work directory, whatever they are called."""


def plain_settings(config: Any) -> dict[str, Any]:
    """Return what a whole configuration says besides its network, in JSON's types; tuples are marked as such.

    Args:
        config: mmengine's ``Config``, or its dict.

    Raises:
        InputError: a part has no plain form.
    """
    config = config.to_dict() if hasattr(config, 'to_dict') else config
    return {key: _plain(config[key], key) for key in KEPT if config.get(key) is not None}


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f'{where}.{k}') for k, v in value.items()}
    if isinstance(value, tuple):
        return {TUPLE: [_plain(item, where) for item in value]}
    if isinstance(value, list):
        return [_plain(item, where) for item in value]
    if isinstance(value, type) or callable(value):
        return value.__name__
    plain = value is None or isinstance(value, (str, bool, int, float))
    require(plain, where, type(value).__name__, 'a number, word, list or dict', InputError)
    return value


def settings_in(value: Any) -> Any:
    """Return what :func:`plain_settings` was given, of what was read."""
    if isinstance(value, dict):
        if value.keys() == {TUPLE}:
            return tuple(settings_in(item) for item in value[TUPLE])
        return {key: settings_in(item) for key, item in value.items()}
    return [settings_in(item) for item in value] if isinstance(value, list) else value


def known_types(*scopes: str | None) -> set[str]:
    """Return the names of all that libraries register: their own classes and functions."""
    found = registered_names(*scopes)
    places: list[Any] = [mmengine.registry]
    for scope in sorted(set(SCOPES[1:]) & set(scopes)):
        with without_noise():
            for part in PARTS:
                with suppress(ImportError):  # what is missing is said when it is needed
                    import_module(f'{scope}.{part}')
        places.append(import_module(f'{scope}.registry'))
    for registry in {id(r): r for place in places for r in vars(place).values() if isinstance(r, Registry)}.values():
        found |= {
            name
            for name, kind in registry.module_dict.items()
            if getattr(kind, '__module__', '').partition('.')[0] in LIBRARIES
        }
    return found


def check_settings(value: Any, names: set[str], where: str = 'settings', depth: int = 0) -> None:
    """Refuse settings that do more than describe data, tests and training.

    Types are registered by name; words are no addresses and lead to no pickled file; nothing is written but to the
    work directory.

    Raises:
        InputError: naming the place.
    """
    require(depth < 2 * DEEPEST, where, '...', f'dicts in dicts {2 * DEEPEST} deep at most', InputError)
    if isinstance(value, dict):
        if TUPLE in value:
            fits = value.keys() == {TUPLE} and isinstance(value[TUPLE], list)
            require(fits, where, str(value)[:80], 'a list under "tuple"', InputError)
        kind = value.get('type')
        for key, item in value.items():
            require(bool(re.fullmatch(r'[\w.-]+', key)), where, key[:80], 'names', InputError)
            hook = key == 'checkpoint' and isinstance(item, dict)
            starts = key in FILES_TO_START_FROM and bool(item) and not hook
            require(not starts, f'{where}.{key}', str(item)[:80], 'None', InputError)
            own = kind in OWN_FILES
            written = isinstance(item, str) and bool(item) and bool(WRITES.fullmatch(key)) and not own
            require(not written, f'{where}.{key}', str(item)[:80], 'no file to write', InputError)
            if key == '_scope_':
                require(item in (*SCOPES, 'qsdt_mm'), f'{where}.{key}', str(item)[:80], ', '.join(SCOPES), InputError)
            if key == 'type':
                known = isinstance(item, str) and item.rpartition('.')[2] in names
                scope = item.rpartition('.')[0] if known else ''
                known = known and scope in ('', *SCOPES, 'qsdt_mm')
                require(known, f'{where}.type', str(item)[:80], 'a registered name', InputError)
            check_settings(item, names, f'{where}.{key}', depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_settings(item, names, where, depth + 1)
    elif isinstance(value, str):
        plain = len(value) <= LONGEST_WORD and bool(re.fullmatch(r'[\w ,.+*/~-]*', value))
        plain = plain and '..' not in value and not re.search(r'\.(pkl|pickle)$', value.strip(), re.IGNORECASE)
        require(plain, where, value[:80], 'words, and files that are no pickles', InputError)
    else:
        number = value is None or isinstance(value, bool)
        number = number or type(value) in (int, float) and abs(value) <= LARGEST_NUMBER
        require(number, where, value, f'numbers up to {LARGEST_NUMBER}', InputError)


def config_of(folder: PathLike) -> Config:
    """Return the configuration in a packed folder that is complete, as a file of one would be read.

    Raises:
        InputError: there is none, or it does more than describe; one line.
    """
    content = packed_settings(folder)
    settings, scope, model = content['settings'], content.get('default_scope'), content.get('model')
    require(scope is None or scope in SCOPES, 'default_scope', scope, ', '.join(SCOPES), InputError)
    unknown = sorted(settings.keys() - set(KEPT))
    where = f'{folder}: settings'
    require(not unknown, where, ', '.join(unknown[:3])[:80], ', '.join(KEPT), InputError)
    require(isinstance(model, dict) and 'type' in model, f'{folder}: model', type(model).__name__, 'a dict', InputError)
    try:
        names = known_types(scope, *scopes_in(model), *scopes_in(settings))
    except ImportError as error:
        raise InputError(f'{folder} needs {needed(error)}') from error
    check_config(model, names)
    check_settings(settings, names)
    cfg = Config(dict(default_scope=scope, model=model, **settings_in(settings)))
    object.__setattr__(cfg, '_filename', f'{Path(folder).resolve().name}.py')  # how a run calls its copy
    return cfg
