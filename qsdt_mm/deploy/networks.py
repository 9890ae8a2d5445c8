"""Networks as plain configurations, built again from folders of others: nothing is built that the file cannot fill."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, TASK_UTILS, DefaultScope, Registry
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from qsdt_mm.compat.distributions import needed
from qsdt_mm.compat.noise import without_noise
from qsdt_mm.errors import InputError, one_line, require
from qsdt_mm.fileio.checkpoint import load_weights

SCOPES = ('mmengine', 'mmpretrain', 'mmdet', 'mmseg')
LIBRARIES = (*SCOPES, 'mmcv', 'qsdt_mm', 'torch')
REGISTRIES = ('MODELS', 'TASK_UTILS', 'BATCH_AUGMENTS')
SUPPRESSIONS = {'nms', 'soft_nms', 'nms_match', 'nms_quadri', 'nms_rotated'}
"""Names that mmcv evaluates as code, so that no others may pass."""
ROI_LAYERS = {'RoIAlign', 'RoIPool', 'SimpleRoIAlign', 'DeformRoIPoolPack', 'ModulatedDeformRoIPoolPack'}
"""Names that mmdet looks up among mmcv's operations, in no registry."""
FILES_TO_START_FROM = ('init_cfg', 'pretrained', 'checkpoint')
"""Arguments that name weights elsewhere; a folder has its own."""
DEEPEST = 24
LARGEST_NUMBER = 2**24
ROOM = 4
"""A network may register a weight so many times while it is built."""


def plain_config(config: Any) -> tuple[dict[str, Any], str | None]:
    """Return a network's configuration in JSON's types, and its default scope.

    What names a file to start from (``init_cfg``, ``pretrained``, ``checkpoint``) is left out.

    Args:
        config: a model's dict, or a whole configuration with ``model``.

    Raises:
        InputError: a part has no plain form.
    """
    config = config.to_dict() if hasattr(config, 'to_dict') else config
    require(isinstance(config, Mapping), 'config', type(config).__name__, 'a dict', InputError)
    scope, model = config.get('default_scope'), config
    if 'type' not in config or isinstance(config.get('model'), Mapping):
        require(
            isinstance(config.get('model'), Mapping),
            'config',
            sorted(map(str, config))[:5],
            'one with model',
            InputError,
        )
        model = dict(config['model'])
        if config.get('data_preprocessor') is not None:
            model.setdefault('data_preprocessor', config['data_preprocessor'])
    return _plain(model, 'model'), scope


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if k not in ('init_cfg', 'checkpoint', '_scope_')}
        if 'pretrained' in kept:  # what must be given may be
            kept['pretrained'] = False if isinstance(kept['pretrained'], bool) else None
        return {str(k): _plain(v, f'{where}.{k}') for k, v in kept.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    if isinstance(value, type):
        return value.__name__
    require(
        value is None or isinstance(value, (str, bool, int, float)),
        where,
        type(value).__name__,
        'a number, word, list or dict',
        InputError,
    )
    return value


def check_config(value: Any, names: set[str], where: str = 'model', depth: int = 0) -> None:
    """Refuse a configuration that does more than describe a network.

    Types are registered by name, words name no files, numbers are moderate.

    Raises:
        InputError: naming the place.
    """
    require(depth < DEEPEST, where, '...', f'dicts in dicts {DEEPEST} deep at most', InputError)
    if isinstance(value, dict):
        for key, item in value.items():
            require(isinstance(key, str) and key.isidentifier(), where, key, 'names', InputError)
            require(key not in FILES_TO_START_FROM or not item, f'{where}.{key}', str(item)[:80], 'None', InputError)
            if key == 'type':
                known = isinstance(item, str) and item.rpartition('.')[2] in names
                scope = item.rpartition('.')[0] if known else ''
                require(
                    known and scope in ('', *SCOPES, 'qsdt_mm'), f'{where}.type', item, 'a registered name', InputError
                )
            check_config(item, names, f'{where}.{key}', depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_config(item, names, where, depth + 1)
    elif isinstance(value, str):
        require(bool(re.fullmatch(r'[\w .,+-]*', value)) and '..' not in value, where, value[:80], 'words', InputError)
    else:
        number = isinstance(value, (bool, type(None))) or type(value) in (int, float) and abs(value) <= LARGEST_NUMBER
        require(number, where, value, f'numbers up to {LARGEST_NUMBER}', InputError)


def scopes_in(value: Any, depth: int = 0) -> set[str]:
    """Return the libraries that types of a configuration name before a dot."""
    found: set[str] = set()
    if depth < DEEPEST:
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            found |= scopes_in(item, depth + 1)
    kind = value.get('type') if isinstance(value, dict) else None
    return found | ({kind.partition('.')[0]} & set(SCOPES) if isinstance(kind, str) and '.' in kind else set())


def registered_names(*scopes: str | None) -> set[str]:
    """Return names of what networks of libraries are made of, as far as it is of a library that is known."""
    found = SUPPRESSIONS | ROI_LAYERS
    registries: list[Registry] = [MODELS, TASK_UTILS]
    for scope in sorted(set(SCOPES[1:]) & set(scopes)):
        library = import_module(f'{scope}.registry')
        with without_noise():
            import_module(f'{scope}.models')
        registries += [getattr(library, name) for name in REGISTRIES if hasattr(library, name)]
    for registry in registries:
        found |= {
            name
            for name, kind in registry.module_dict.items()
            if getattr(kind, '__module__', '').partition('.')[0] in LIBRARIES
        }
    return found


@contextmanager
def _no_more_than(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Refuse to build more weights than are at hand."""
    left = [ROOM * (len(tensors) + 100), ROOM * (sum(tensor.numel() for tensor in tensors.values()) + 2**20)]

    def count(module: nn.Module, name: str, weight: Any) -> None:
        left[0] -= 1
        left[1] -= weight.numel() if weight is not None else 0
        if min(left) < 0:
            raise InputError('the network of config.json is larger than its weights')

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _fits(weight: Tensor, wanted: Tensor) -> bool:
    """Return whether a weight has a shape, and is of real or of whole numbers."""
    return weight.shape == wanted.shape and weight.is_floating_point() == wanted.is_floating_point()


def build_network(config: Any, scope: str | None, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return the network of a configuration with all its weights, in evaluation mode.

    Raises:
        InputError: the configuration asks for more than a network, or the weights are not its; one line.
    """
    require(scope is None or scope in SCOPES, 'default_scope', scope, ', '.join(SCOPES), InputError)
    require(
        isinstance(config, dict) and 'type' in config, 'model', type(config).__name__, 'a dict with a type', InputError
    )
    try:
        names = registered_names(scope, *scopes_in(config))
    except ImportError as error:
        raise InputError(f'the network needs {needed(error)}') from error
    check_config(config, names)
    with DefaultScope.overwrite_default_scope(scope), torch.random.fork_rng(devices=[]):
        for device in ('meta', 'cpu'):  # at first without memory, to see that all weights have their place
            try:
                with _no_more_than(weights), torch.device(device):
                    network = MODELS.build(ConfigDict(config))
            except InputError:
                raise
            except Exception as error:  # of whatever is built
                raise InputError(f'the network of config.json cannot be built: {one_line(error)[:300]}') from error
            wanted = network.state_dict()
            wrong = sorted(name for name in wanted.keys() & weights.keys() if not _fits(weights[name], wanted[name]))
            wrong += sorted(wanted.keys() ^ weights.keys())
            require(not wrong, 'weights', ', '.join(wrong[:3]), 'those of the network in config.json', InputError)
    mismatch = load_weights(network, weights)
    require(not mismatch, 'weights', str(mismatch), 'those of the network in config.json', InputError)
    return network.eval()
