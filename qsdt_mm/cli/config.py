"""Configurations: read, changed by options, checked, and what all tools decide in them."""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qsdt_mm.compat.noise import without_noise
from qsdt_mm.errors import InputError, InputWarning, disk_fault, one_line, require, temporary_fault, why_no_file

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def load_config(path: str, options: Sequence[str] | None = None) -> Any:
    """Read a configuration and apply ``--cfg-options`` after checking them.

    Args:
        path: The file; or a packed folder that holds a whole configuration, or the name of a network that comes with
            the package.
        options: The options, each ``key=value``.

    Returns:
        The mmengine ``Config``.

    Raises:
        InputError: The file does not exist or does not parse, an option means nothing, a name is of old, or a
            data loader or its data set is no dict.
    """
    from qsdt_mm.deploy.settings import config_of
    from qsdt_mm.engine import hooks  # noqa: F401  registers, for configurations that do not import this package
    from qsdt_mm.fileio.shipped import located

    from .cfg_options import check_cfg_options, drop_absent_hooks, refuse_old_names
    from .config_types import tuples_where_wanted
    from .faults import CONFIG
    from .variables import check_variables

    CONFIG.set(str(path))
    folder = located(path)
    cfg = _read_file(path) if folder is None else config_of(folder)
    refuse_old_names(cfg._cfg_dict, f'config {path}')
    parsed = parse_options(options)
    check_cfg_options(cfg, parsed)
    for remark in check_variables(path, cfg, parsed) if folder is None else ():  # a folder has no variables
        warnings.warn(remark, InputWarning, stacklevel=2)
    before = copy.deepcopy(cfg._cfg_dict) if parsed else None
    if parsed:
        cfg.merge_from_dict(parsed)
        refuse_old_names(cfg._cfg_dict, '--cfg-options')
    tuples_where_wanted(cfg._cfg_dict, cfg.get('default_scope'), before)
    drop_absent_hooks(cfg)
    for name in LOADERS:
        loader = cfg.get(name)
        if loader is not None:
            require(isinstance(loader, dict), name, loader, 'a dict', InputError)
            dataset = loader.get('dataset', {})
            require(isinstance(dataset, dict), f'{name}.dataset', dataset, 'a dict', InputError)
    return cfg


def _read_file(path: str) -> Any:
    """Return what a file of a configuration says."""
    from mmengine.config import Config

    from qsdt_mm.compat.config_files import following_links
    from qsdt_mm.fileio.near import did_you_mean, kind_of

    absent = why_no_file(path)
    if absent:
        raise InputError(f'config {path} {absent}{did_you_mean(path, "a configuration")}')
    if kind_of(path) in ('a checkpoint', 'a picture'):
        raise InputError(f'config {path} is {kind_of(path)}, not a configuration')
    try:
        with following_links(lambda remark: warnings.warn(remark, InputWarning, stacklevel=3)):
            return Config.fromfile(path)
    except InputError:
        raise
    except Exception as error:
        # mmengine copies what it reads into a temporary folder, and trips where it cannot make one.
        fault = error.__context__ if isinstance(error, UnboundLocalError) else disk_fault(error)
        if isinstance(fault, OSError) and not temporary_fault(error):
            raise InputError(
                f'config {path} cannot be read: no temporary file can be written ({one_line(fault)}): set TMPDIR to a '
                'folder that takes some'
            ) from error
        raise InputError(f'config {path} cannot be read: {one_line(error)}') from error


def parse_options(options: Sequence[str] | None) -> dict[str, Any]:
    """Turn ``key=value`` words into values, as mmengine does.

    Raises:
        InputError: A word has no ``=``, or a value's brackets do not match.
    """
    from mmengine.config import DictAction

    if not options:
        return {}
    for word in options:
        if not re.match(r'[^=\s]+=', word):
            raise InputError(f'--cfg-options takes key=value, got {word!r}')
    parser = argparse.ArgumentParser(prefix_chars='\0')
    parser.add_argument('options', nargs='+', action=DictAction)
    try:
        return parser.parse_args(list(options)).options
    except (AssertionError, ValueError) as error:
        raise InputError(f'--cfg-options: {one_line(error)}') from error


def default_loaders(cfg: Any) -> None:
    """Give mmpretrain's data loaders the defaults that mmpretrain's own tools give them, in place."""
    if cfg.get('default_scope') != 'mmpretrain':
        return
    import torch

    for name in LOADERS:
        if cfg.get(name) is not None:
            cfg[name].setdefault('collate_fn', dict(type='default_collate'))
            cfg[name].setdefault('pin_memory', torch.cuda.is_available())


def import_library(cfg: Any) -> None:
    """Import the parts of the configuration's library now, while what it says at import is kept back."""
    scope = cfg.get('default_scope')
    if scope in ('mmpretrain', 'mmdet', 'mmseg'):
        with without_noise():
            for part in ('models', 'datasets', 'evaluation', 'engine'):
                with contextlib.suppress(ImportError):  # whatever is missing is reported when it is needed
                    importlib.import_module(f'{scope}.{part}')


def of_root(loader: Any) -> str:
    """Return the place of a loader's data, as an addition to a message; empty if its configuration gives none."""
    dataset = loader.get('dataset') if hasattr(loader, 'get') else None
    root = dataset.get('data_root') if hasattr(dataset, 'get') else None
    return f' in {root}' if root else ''


def set_work_dir(cfg: Any, config_path: str, work_dir: str | None) -> Path:
    """Choose the work directory: the option's, the configuration's, or ``work_dirs/<name of the config>``."""
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(config_path).stem)
    return Path(cfg.work_dir)
