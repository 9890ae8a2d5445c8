"""Quantized, spike-driven vision transformers for OpenMMLab."""

from typing import Any

try:
    # compat first: it stands in for mmcv's ops before anything imports them; the others register.
    from . import compat, models, registry  # noqa: F401
    from .datasets import sample_batches  # noqa: F401
    from .engine import hooks  # noqa: F401
    from .models import IELIF, LIF, ParametricLIF, SpikeDrivenTransformer
    from .version import __version__
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
