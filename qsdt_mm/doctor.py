"""Report of installed packages, of working parts, and of remedies for the others: ``python -m qsdt_mm.doctor``."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import sys
import warnings
from collections.abc import Iterator
from typing import NamedTuple

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
"""What each module is for, where it may be absent."""
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
                advice = f'{module} misses the module {error.name}: reinstall {install}'
            elif fatal or purpose:
                advice = f'pip install {install}' + (f' (for {purpose})' if purpose else '')
            yield Finding(module, version or 'not installed', advice, fatal)
        except Exception as error:
            reason = ' '.join(str(error).split())[:200]
            yield Finding(module, version or '?', f'does not import ({reason}): reinstall {install}', fatal)
        else:
            yield Finding(module, version or '?')
            if module == 'mmpretrain':
                yield from multimodal()
    for line in ('mmengine', 'mmcv'):
        both = [name for name in DISTRIBUTIONS[line] if version_of(name)]
        if len(both) > 1:
            yield Finding(line, ' and '.join(both), f'two packages share these files: pip uninstall {both[1]}')


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
    from qsdt_mm.compat.mmcv_ext import HOW_TO_COMPILE, OPS

    compiled = compat.ops_are_compiled()
    if compiled is None:
        return
    if compiled:
        yield Finding('mmcv ops', 'compiled')
        return
    yield Finding('mmcv ops', f'not compiled; stood in for: {", ".join(OPS)}')
    if not compat.found_at_start():
        yield Finding(
            '',
            'found once qsdt_mm is imported',
            f"mmdet's own tools need them earlier: {EARLIER}",
        )
    yield Finding('', 'other ops refuse, each with a line that names it', f'only if you need them: {HOW_TO_COMPILE}')


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


def examine() -> list[Finding]:
    """Return all findings, in the order of the report."""
    findings = [Finding('Python', platform.python_version()), *packages()]
    if not any(finding.fatal and finding.advice for finding in findings):
        from qsdt_mm.version import __version__

        findings[1:1] = [Finding('qsdt_mm', __version__)]
        findings += [*compiled_ops(), *devices()]
    return findings


def main() -> int:
    """Print the report; status 1 if something that everything needs is missing."""
    warnings.simplefilter('ignore')
    from qsdt_mm.compat.noise import without_noise

    with without_noise():
        findings = examine()
    for finding in findings:
        print(f'{finding.name:<12} {finding.state}')
        if finding.advice:
            print(f'{"":<12} -> {finding.advice}')
    return int(any(finding.fatal and finding.advice for finding in findings))


if __name__ == '__main__':
    sys.exit(main())
