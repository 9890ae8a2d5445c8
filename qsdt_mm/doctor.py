"""Report of installed packages, of working parts, and of remedies for the others: ``python -m qsdt_mm.doctor``.

``python -m qsdt_mm.doctor CONFIG ...`` builds the models of configurations, too, and looks whether their parts fit.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import platform
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from qsdt_mm.compat import EXTENSION
from qsdt_mm.compat.distributions import DISTRIBUTIONS, to_install, version_of

MODULES = dict(
    torch='',
    torchvision='',
    mmengine='',
    mmcv='',
    mmpretrain='image classification',
    mmdet='detection',
    mmseg='segmentation',
    timm='',
    sklearn='the digits of make demo',
)
"""Modules to look for; of those that may be absent, their purpose."""
OPENMMLAB = ('mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg')
EXTENSION_FILE = re.compile(r'mmcv\W_ext\b')
LIBRARIES = ('mmpretrain', 'mmdet', 'mmseg')
NEEDED = ('torch', 'torchvision', 'mmengine', 'mmcv')

EARLIER = 'pip install --no-deps -e . in the tree of qsdt_mm'


class Finding(NamedTuple):
    """One line of the report.

    Args:
        name: what it is about.
        state: what was found.
        advice: what to do about it; empty when all is well.
        fatal: nothing works without it.

    >>> finding = next(packages())
    >>> finding.name, finding.advice  # all is well
    ('torch', '')
    """

    name: str
    state: str
    advice: str = ''
    fatal: bool = False


def packages() -> Iterator[Finding]:
    """Return versions, and whether each package imports."""
    for module, purpose in MODULES.items():
        distributions, install = DISTRIBUTIONS.get(module, (module,)), to_install(module)
        version, advice = version_of(*distributions), ''
        fatal = module in NEEDED
        try:
            importlib.import_module(module)
            if module in LIBRARIES:  # what they are made of is not imported before it is needed
                importlib.import_module(f'{module}.models')
        except ModuleNotFoundError as error:
            if error.name != module:
                advice = f'{module} misses the module {error.name}: {to_mend((error.name or "").partition(".")[0])}'
            elif version:
                advice = f'its files are gone: {to_mend(module)}'
            elif fatal or purpose:
                advice = f'pip install {install}' + (f' (for {purpose})' if purpose else '')
            yield Finding(module, version or 'not installed', advice, fatal)
        except Exception as error:
            reason = ' '.join(str(error).split())[:200]
            broken = 'mmcv' if EXTENSION_FILE.search(reason) else module  # compiled for another torch
            yield Finding(module, version or '?', f'does not import ({reason}): {to_mend(broken)}', fatal)
        else:
            yield Finding(module, version or '?')
            if module == 'mmpretrain':
                yield from multimodal()
    yield from lines()


def to_mend(module: str) -> str:
    """Return the command that puts a module's files there again."""
    names = DISTRIBUTIONS.get(module, (module,))
    present = next((name for name in names if version_of(name)), None)
    return f'pip install --force-reinstall --no-deps {present}' if present else f'pip install {to_install(module)}'


def lines() -> Iterator[Finding]:
    """List OpenMMLab's packages of two lines in one place, and what an older line has left there."""
    held = {module: [name for name in DISTRIBUTIONS[module] if version_of(name)] for module in OPENMMLAB}
    for module, names in held.items():
        if len(names) > 1:
            yield Finding(
                module,
                ' and '.join(names),
                f'they share their files: pip uninstall {" ".join(names[1:])}, then {to_mend(module)}',
            )
    first = {module: names[0] for module, names in held.items() if names}
    original = [name for name in first.values() if not name.startswith('onedl-')]
    if original and len(original) < len(first):
        maintained = [name for name in first.values() if name not in original]
        yield Finding(
            'OpenMMLab',
            f'of two lines: {", ".join(maintained)}; {", ".join(original)}',
            f'each expects the packages of its own: pip uninstall {" ".join(original)}, then pip install '
            + ' '.join(DISTRIBUTIONS[module][0] for module, name in first.items() if name in original),
        )
    with contextlib.suppress(ImportError, ValueError):
        if importlib.util.find_spec('mmcv.runner') is not None:  # what mmcv 2 has in mmengine
            yield Finding(
                'mmcv', 'with files of mmcv 1', f'remove the folder mmcv beside mmengine, then {to_mend("mmcv")}'
            )


def caches() -> Iterator[Finding]:
    """List folders that libraries want to write to."""
    home = Path('~').expanduser()
    for variable, folder, purpose in (
        ('MPLCONFIGDIR', Path(os.environ.get('XDG_CONFIG_HOME') or home / '.config') / 'matplotlib', 'fonts'),
        ('TRITON_CACHE_DIR', home / '.triton', 'kernels for GPUs'),
        ('TORCH_HOME', Path(os.environ.get('XDG_CACHE_HOME') or home / '.cache') / 'torch', 'downloaded weights'),
    ):
        folder = Path(os.environ.get(variable) or folder)
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not (there.is_dir() and os.access(there, os.W_OK) and can_write(there)):
            yield Finding(
                'cache', f'{folder} cannot be written ({purpose})', f'export {variable}=A_FOLDER_THAT_CAN_BE_WRITTEN'
            )


def can_write(folder: Path) -> bool:
    """Return whether a file can be made in a folder: its permissions say nothing of a read-only file system."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def multimodal() -> Iterator[Finding]:
    """Return whether mmpretrain had to be imported without its multimodal models."""
    from qsdt_mm import compat

    failure = compat.multimodal_failure()
    if failure:
        beside = f'transformers {(version_of("transformers") or "?").split()[0]}'
        yield Finding(
            '',
            f'without its multimodal models, which do not import beside {beside} ({failure})',
            'nothing here needs them; only if you do: pip install "transformers<5" einops',
        )
        if not compat.found_at_start():
            yield Finding('', 'so once qsdt_mm is imported', f"mmpretrain's own tools need that earlier: {EARLIER}")


def compiled_ops() -> Iterator[Finding]:
    """List mmcv's ops that are compiled, and those that are stood in for."""
    from qsdt_mm import compat
    from qsdt_mm.compat.mmcv_ext import HOW_TO_COMPILE, all_ops

    compiled = compat.ops_are_compiled()
    if compiled is None:
        return
    if compiled:
        yield Finding('mmcv ops', 'compiled', *loading_fault())
        return
    names = dict.fromkeys(re.sub(r'(_naive)?_(forward|backward)(_\w+)?$', '', op) for op in all_ops())
    yield Finding('mmcv ops', f'not compiled; stood in for: {", ".join(names)}')
    if not compat.found_at_start():
        yield Finding(
            '',
            'found once qsdt_mm is imported',
            f"mmdet's own tools need them earlier: {EARLIER}",
        )
    yield Finding('', 'other ops refuse, each with a line that names it', f'only if you need them: {HOW_TO_COMPILE}')


def loading_fault() -> Iterator[str]:
    """Yield the remedy if mmcv's compiled ops do not load."""
    try:
        importlib.import_module(EXTENSION)
    except Exception as error:
        reason = ' '.join(str(error).split())[:200]
        file = importlib.util.find_spec(EXTENSION).origin
        yield f'they do not load ({reason}): compile them for this torch, or do without: rm {file}'


def devices() -> Iterator[Finding]:
    """List the devices to compute on."""
    import torch

    yield Finding('CPU', f'{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}')
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(i).total_memory / 2**30
            yield Finding(f'GPU {i}', f'{torch.cuda.get_device_name(i)}, {memory:.0f} GiB')
    else:
        built = torch.version.cuda
        yield Finding(
            'GPU', 'none' + (f' (torch was built for CUDA {built})' if built else ' (torch was built for CPU)')
        )


def configuration(path: str) -> Finding:
    """Build the model of a configuration; of a detector, compare the strides that its parts are told with its maps'."""
    from qsdt_mm.analysis.strides import OPTION, told_strides
    from qsdt_mm.cli import load_config
    from qsdt_mm.cli.builders import build_model
    from qsdt_mm.cli.config import import_library
    from qsdt_mm.cli.shell import Session
    from qsdt_mm.errors import InputError

    try:
        cfg = load_config(path)
        if cfg.get('model') is None:
            raise InputError('it has no model')
        import_library(cfg)
        from mmengine.registry import DefaultScope

        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            model = build_model(cfg, None, Session('doctor'))
    except InputError as error:
        return Finding('config', path, str(error), fatal=True)
    strides = ', strides fit' if any(told_strides(model)) and not cfg.get(OPTION) else ''
    return Finding('config', f'{path}: its model builds{strides}')


def examine(configs: Sequence[str] = ()) -> list[Finding]:
    """Return all findings, in the order of the report.

    Args:
        configs: files of configurations to look at, too.
    """
    findings = [Finding('Python', platform.python_version()), *packages()]
    if not any(finding.fatal and finding.advice for finding in findings):
        from qsdt_mm.version import __version__

        findings[1:1] = [Finding('qsdt_mm', __version__)]
        findings += [*compiled_ops(), *devices(), *caches(), *map(configuration, configs)]
    return findings


def verdict(findings: Sequence[Finding]) -> str:
    """Return what can be done with what was found, in a line.

    >>> verdict([Finding('torch', 'not installed', 'pip install torch', fatal=True)])
    'not ready: torch'
    """
    fatal = list(dict.fromkeys(finding.name for finding in findings if finding.fatal and finding.advice))
    if fatal:
        return f'not ready: {", ".join(fatal)}'
    broken = {finding.name for finding in findings if finding.advice}
    there = {finding.name for finding in findings}
    tasks = {'mmpretrain': 'classification', 'mmdet': 'detection', 'mmseg': 'segmentation'}
    usable = [task for module, task in tasks.items() if module in there - broken]
    missing = [task for task in tasks.values() if task not in usable]
    gpus = sum(finding.name.startswith('GPU ') for finding in findings)
    devices = 'no GPU' if not gpus else f'{gpus} GPU' + ('s' if gpus > 1 else '')
    without = f'; not {", ".join(missing)}' if missing else ''
    return f'ready: {", ".join(usable) or "backbones alone"}{without}; {devices}'


def main(argv: Sequence[str] = ()) -> int:
    """Print the report; status 1 if something that everything needs is missing, or a configuration does not build."""
    parser = argparse.ArgumentParser(prog='python -m qsdt_mm.doctor', description='Say what is installed and works.')
    parser.add_argument('config', nargs='*', help='configurations whose models are built and looked at, too')
    configs = parser.parse_args(argv).config
    warnings.simplefilter('ignore')
    from qsdt_mm.compat.noise import without_noise

    with without_noise():
        findings = examine(configs)
    for finding in findings:
        print(f'{finding.name:<12} {finding.state}')
        if finding.advice:
            print(f'{"":<12} -> {finding.advice}')
    print(verdict(findings))
    return int(any(finding.fatal and finding.advice for finding in findings))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
