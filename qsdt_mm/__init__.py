"""Quantized, spike-driven vision transformers for OpenMMLab."""

import sys
from pathlib import Path
from typing import Any

from .version import __version__


def _asked_for_help() -> bool:
    """Return whether the program is one of this project's tools, asked for its help: that needs no torch."""
    words = sys.argv[1:]
    words = words[: words.index('--')] if '--' in words else words
    if not {'-h', '--help'}.intersection(words):
        return False
    if sys.argv[0] == '-m':  # Python is looking for the module that it was told to run
        return 'qsdt_mm.doctor' in sys.orig_argv
    file = getattr(sys.modules.get('__main__'), '__file__', None)
    if file is None:
        return False
    here, program = Path(__file__).resolve().parent, Path(file).resolve()
    homes = (here.parent / 'tools', here.parent / 'demo', here / '.mim/tools', here / '.mim/demo')
    return any(home in program.parents for home in homes)


try:
    if not _asked_for_help():
        # compat first: it stands in for mmcv's ops before anything imports them; the others register.
        from . import compat, models, registry  # noqa: F401
        from .datasets import sample_batches  # noqa: F401
        from .engine import hooks  # noqa: F401
        from .models import IELIF, LIF, ParametricLIF, SpikeDrivenTransformer
except ModuleNotFoundError as error:
    missing = (error.name or '').partition('.')[0]
    if missing not in ('torch', 'torchvision', 'mmengine', 'mmcv'):
        raise
    package = f'onedl-{missing}' if missing.startswith('mm') else missing
    raise ImportError(f'qsdt_mm needs {missing}, which is not installed: pip install {package}') from None

__all__ = ['IELIF', 'LIF', 'ParametricLIF', 'SpikeDrivenTransformer', '__version__']


def __getattr__(name: str) -> Any:
    if name == 'load_published':  # needs mmpretrain, which takes seconds to import
        from .published import load_published

        return load_published
    if name in ('from_pretrained', 'push_to_hub', 'save_pretrained'):
        from .deploy import pretrained

        return getattr(pretrained, name)
    if name in ('list_pretrained', 'register_models'):
        from .deploy import listing

        return getattr(listing, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
