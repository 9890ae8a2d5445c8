"""Distributions that bring a module: for OpenMMLab's those of the maintained line and the original ones."""

from __future__ import annotations

from importlib import metadata

DISTRIBUTIONS = dict(
    mmengine=('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    mmcv=('onedl-mmcv', 'mmcv-lite', 'mmcv'),
    mmpretrain=('onedl-mmpretrain', 'mmpretrain'),
    mmdet=('onedl-mmdetection', 'mmdet'),
    mmseg=('onedl-mmsegmentation', 'mmsegmentation'),
    sklearn=('scikit-learn',),
)
"""By module: the maintained distribution first, then the original ones, the one to advise first."""


def version_of(*distributions: str) -> str | None:
    """Return the version and name of the first of these distributions that is installed; None if there is none."""
    for name in distributions:
        try:
            return f'{metadata.version(name)} ({name})'
        except metadata.PackageNotFoundError:
            continue
    return None


def to_install(module: str) -> str:
    """Name the distribution that brings a module, of the installed mmengine's line; the maintained one in doubt."""
    maintained, *original = DISTRIBUTIONS.get(module, (module,))
    of_engine = DISTRIBUTIONS['mmengine']
    return original[0] if original and not version_of(of_engine[0]) and version_of(*of_engine[1:]) else maintained


def needed(error: ImportError) -> str:
    """Return what an import asked for in vain, that it is not installed, and what brings it."""
    if not error.name:
        return 'a library, which is not installed'
    module = error.name.partition('.')[0]
    return f'{module}, which is not installed: pip install {to_install(module)}'
