"""Catch a mistyped ``--cfg-options`` key, which mmengine would silently add to the configuration."""

from __future__ import annotations

import copy
import difflib
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mmengine.registry as registries
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
from torch import nn
from torch.utils.data import DataLoader

from qsdt_mm.compat import signatures
from qsdt_mm.compat.noise import without_log, without_noise
from qsdt_mm.compat.renamed import ARGUMENTS, old_names, renamed
from qsdt_mm.compat.signatures import parameters_of
from qsdt_mm.errors import InputError, require

ANY = None  #: the set of keys of a dict that takes any

MMENGINE_HOOKS = {'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'}
_TOP_LEVEL = {
    'activation_checkpointing',
    'allow_stride_mismatch',
    'compile',
    'cuda_graphs',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'launcher',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}
_BUILDER_KEYS = {'type', '_scope_', '_delete_'}
_LOADER_KEYS = {
    'batch_sampler',
    'collate_fn',
    'dataset',
    'disable_subprocess_warning',
    'num_batch_per_epoch',
    'sampler',
    'worker_init_fn',
}
_PARAMWISE_KEYS = {
    'bias_decay_mult',
    'bias_lr_mult',
    'bypass_duplicate',
    'custom_keys',
    'dcn_offset_lr_mult',
    'dwconv_decay_mult',
    'flat_decay_mult',
    'norm_decay_mult',
}
_FREE = {'custom_keys', 'data_prefix', 'dist_cfg', 'metainfo'}  #: dicts whose keys are the user's own


def accepted_arguments(target: Any) -> tuple[set[str], bool]:
    """Extend :func:`qsdt_mm.compat.signatures.accepted_arguments` by what mmengine's checkpoint hook passes on."""
    names, open_ended = signatures.accepted_arguments(target)
    if inspect.isclass(target) and issubclass(target, CheckpointHook):  # its rest goes to save_checkpoint
        return names | parameters_of(Runner.save_checkpoint)[0], False
    return names, open_ended


def _all_registries() -> Iterator[Registry]:
    for name in registries.__all__:
        value = getattr(registries, name, None)
        if isinstance(value, Registry):
            yield value


@contextmanager
def _silence() -> Iterator[None]:
    with without_log(logging.WARNING), without_noise():
        yield


def resolve_type(name: Any, scope: str | None = None) -> list[Any]:
    """Return everything that mmengine's registries know by a type name.

    Args:
        name: The value of ``type``: a name, with or without a scope, or the class itself.
        scope: The default scope of the configuration.
    """
    if not isinstance(name, str):
        return [name] if callable(name) else []
    found: list[Any] = []
    with _silence(), DefaultScope.overwrite_default_scope(scope):
        for registry in _all_registries():
            try:
                with registry.switch_scope_and_registry(None) as scoped:
                    target = scoped.get(name)
            except Exception:  # a library that is not installed, or does not import
                continue
            if target is not None and target not in found:
                found.append(target)
    return found


def _typeless(path: tuple[str, ...], node: Mapping) -> tuple[set[str], bool] | None:
    """Return the class or function that a dict without ``type`` configures, else ``None``."""
    last = path[-1]
    if last in _FREE:
        return set(), True
    if last.endswith('_dataloader'):
        names, _ = parameters_of(DataLoader.__init__)
        return names | _LOADER_KEYS, False
    if path == ('train_cfg',):
        names, _ = accepted_arguments(EpochBasedTrainLoop if node.get('by_epoch', True) else IterBasedTrainLoop)
        return names | {'by_epoch'}, False
    fixed: dict[tuple[str, ...], Callable] = {
        ('val_cfg',): ValLoop,
        ('test_cfg',): TestLoop,
        ('optim_wrapper',): OptimWrapper,
        ('randomness',): Runner.set_randomness,
        ('log_processor',): LogProcessor,
        ('compile',): torch.compile,
        ('optim_wrapper', 'clip_grad'): nn.utils.clip_grad_norm_,
    }
    if path in fixed:
        return accepted_arguments(fixed[path])
    if path == ('model_wrapper_cfg',):
        names, _ = accepted_arguments(MMDistributedDataParallel)
        return names | accepted_arguments(nn.parallel.DistributedDataParallel)[0], False
    named = {
        ('auto_scale_lr',): {'base_batch_size', 'enable'},
        ('env_cfg',): {'cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'},
        ('env_cfg', 'mp_cfg'): {'mp_start_method', 'opencv_num_threads'},
        ('custom_imports',): {'imports', 'allow_failed_imports'},
        ('optim_wrapper', 'paramwise_cfg'): _PARAMWISE_KEYS,
    }
    return (named[path], False) if path in named else None


def names_read(cfg: Config) -> set[str]:
    """Return the top-level names that a run reads: those of mmengine's runner, or of the configuration's own."""
    names = parameters_of(Runner.__init__)[0] - {'cfg'} | _TOP_LEVEL
    for target in resolve_type(cfg.get('runner_type')):
        names |= accepted_arguments(target)[0] - {'cfg'}
    return names


class _Checker:
    def __init__(self, before: Config, after: Config) -> None:
        self.before, self.after = before, after
        self.scope = after.get('default_scope')

    def accepted(self, path: tuple[str, ...], node: Mapping) -> tuple[set[str], bool]:
        """Return the names a dict takes besides those it has, and whether it takes any other."""
        if not path:
            return names_read(self.after), False
        if path == ('default_hooks',):  # a new hook must say what it is
            return set(), False
        if path[0] == 'optim_wrapper' and path[1:] == ('paramwise_cfg',) and 'constructor' in self.after.optim_wrapper:
            return set(), True
        if 'type' not in node:
            if path[-1] != 'data_preprocessor' or self.scope != 'mmpretrain':
                return _typeless(path, node) or (set(), False)
            node = {'type': 'ClsDataPreprocessor'}  # what mmpretrain's classifiers take it for
        names, open_ended = set(), False
        for target in resolve_type(node['type'], node.get('_scope_', self.scope)):
            more, others = accepted_arguments(target)
            names, open_ended = names | more, open_ended or others
        if path == ('optim_wrapper',):
            names |= {'constructor', 'paramwise_cfg'}
        return names, open_ended

    def check(self, key: str) -> None:
        old, new = self.before._cfg_dict, self.after._cfg_dict
        path: tuple[str, ...] = ()
        for part in key.split('.'):
            if isinstance(new, (list, tuple)):
                if not part.isdigit() or int(part) >= len(new):
                    raise InputError(
                        f'unknown key in --cfg-options: {key} ({".".join(path)} is a list of {len(new)}: '
                        f'{part!r} is no index of it)'
                    )
                new = new[int(part)]
                old = old[int(part)] if isinstance(old, (list, tuple)) and int(part) < len(old) else None
            elif isinstance(new, Mapping):
                known = isinstance(old, Mapping) and part in old
                if not known and part not in _BUILDER_KEYS:
                    self.check_new(key, path, part, old, new)
                old = old[part] if known else None
                new = new[part]
            else:
                raise InputError(
                    f'unknown key in --cfg-options: {key} ({".".join(path)} is {new!r}, which has no keys)'
                )
            path += (part,)

    def check_new(self, key: str, path: tuple[str, ...], part: str, old: Any, new: Mapping) -> None:
        names, open_ended = self.accepted(path, new)
        if part in names:
            return
        if is_renamed(part, path, new, self.scope):
            raise InputError(f'--cfg-options {key}: {renamed(part, ARGUMENTS[part])}')
        value = new[part]
        if path == ('default_hooks',) and (
            isinstance(value, Mapping) and 'type' in value or value is None and part in MMENGINE_HOOKS
        ):
            return
        existing = [str(name) for name in old] if isinstance(old, Mapping) else []
        close = difflib.get_close_matches(part, sorted({*names, *existing}), n=3, cutoff=0.6)
        if open_ended and not difflib.get_close_matches(part, sorted({*names, *existing}), n=1, cutoff=0.85):
            return
        if old is None and not names:  # inside a dict that is new itself and that nothing describes
            return
        message = f'unknown key in --cfg-options: {key}'
        if path:
            what = f' ({new["type"]})' if 'type' in new else ''
            message += f' ({".".join(path)}{what} has no {part!r})'
        if close:
            message += '; did you mean ' + ' or '.join('.'.join([*path, name]) for name in close) + '?'
        raise InputError(message)


def check_cfg_options(cfg: Config, options: Mapping[str, Any] | None) -> None:
    """Check that every key of ``--cfg-options`` means something.

    A key passes if the configuration has it, or if the class that its dict names as ``type`` takes it
    (looked up in mmengine's registries under the configuration's default scope), or if mmengine's Runner
    takes it. Where that cannot be known, only existing keys pass.

    Args:
        cfg: The configuration, without the options.
        options: The options, ``{'a.b.c': value}``.

    Raises:
        InputError: A key means nothing; the message names it and what is close to it.
    """
    if not options:
        return
    after = copy.deepcopy(cfg)
    try:
        after.merge_from_dict(dict(options))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        for key in options:  # say which one, where that can be seen
            probe = copy.deepcopy(cfg)
            try:
                probe.merge_from_dict({key: options[key]})
            except AttributeError as single:
                raise InputError(
                    f'--cfg-options {key}={options[key]!r}: one element of a list can only be changed if it is a dict; '
                    'give the whole list'
                ) from single
            except (KeyError, TypeError, ValueError) as single:
                text = ' '.join(str(single.args[0] if single.args else single).split())
                raise InputError(f'unknown key in --cfg-options: {key} ({text[:200]})') from error
        raise InputError(f'--cfg-options do not fit together: {" ".join(str(error).split())[:200]}') from error
    checker = _Checker(cfg, after)
    for key in options:
        checker.check(key)


def refuse_old_names(config: Mapping, source: str) -> None:
    """Refuse old arguments of this package's classes, and old names of those.

    Args:
        config: the configuration, or a part of one.
        source: where it comes from, to begin the line with.

    Raises:
        InputError: there is one; the line names it with its path, and the new name.
    """
    scope = config.get('default_scope')
    for path, node, new in old_names(config):
        if path[-1] == 'type':
            raise InputError(f'{source}: {".".join(path)}: {renamed(node["type"], new)}')
        if is_renamed(path[-1], path[:-1], node, scope):
            raise InputError(f'{source}: {".".join(path[:-1])}: {renamed(path[-1], new)}')


def is_renamed(key: str, path: tuple[str, ...], node: Mapping, scope: str | None) -> bool:
    """Return whether the class that a dict describes takes an argument's new name and not the old one.

    Args:
        key: the argument.
        path: of the dict in the configuration; a ``neuron`` without a type is its network's usual one.
        node: the dict.
        scope: the configuration's default scope.
    """
    if key not in ARGUMENTS:
        return False
    if 'type' not in node:
        return path[-1:] == ('neuron',)
    takes: set[Any] = set()
    for target in resolve_type(node['type'], node.get('_scope_', scope)):
        takes |= accepted_arguments(target)[0]
    return ARGUMENTS[key] in takes and key not in takes


def check_loop(cfg: Config) -> None:
    """Check the numbers of the training loop, which mmengine first looks at when an epoch has been trained.

    Raises:
        InputError: One of them is no integer, or validation is to happen every 0 epochs.
    """
    for name in ('max_epochs', 'max_iters', 'val_begin', 'val_interval'):
        value = cfg.train_cfg.get(name, 1) if isinstance(cfg.train_cfg, Mapping) else 1
        whole = isinstance(value, int) and not isinstance(value, bool)
        allowed = 'an integer but 0' if name == 'val_interval' else 'an integer'
        require(whole and (value != 0 or name != 'val_interval'), f'train_cfg.{name}', value, allowed, InputError)


ADDED_HOOKS = ('classes', 'energy', 'report')
"""Hooks that the tools add to a run whose ``default_hooks`` does not name them; ``absent_hooks`` says which not."""


def drop_absent_hooks(cfg: Config) -> None:
    """Leave out hooks that are None, in place; mmengine takes None for its own default hooks alone.

    Raises:
        InputError: A hook is something else than a dict, or a place for hooks is no dict or list.
    """
    default, custom = cfg.get('default_hooks'), cfg.get('custom_hooks')
    if default is not None:
        require(isinstance(default, Mapping), 'default_hooks', default, 'a dict of hooks', InputError)
        for name, hook in list(default.items()):
            fits = hook is None or isinstance(hook, Mapping)
            require(fits, f'default_hooks.{name}', hook, 'a dict, or None for no such hook', InputError)
            if hook is None and name not in MMENGINE_HOOKS:
                del default[name]
                if name in ADDED_HOOKS:
                    cfg.absent_hooks = sorted({*cfg.get('absent_hooks', ()), name})
    if custom is not None:
        require(isinstance(custom, (list, tuple)), 'custom_hooks', custom, 'a list of hooks', InputError)
        for i, hook in enumerate(custom):
            fits = hook is None or isinstance(hook, Mapping)
            require(fits, f'custom_hooks.{i}', hook, 'a dict, or None for no such hook', InputError)
        if None in custom:
            cfg.custom_hooks = [hook for hook in custom if hook is not None]
