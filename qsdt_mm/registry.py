"""Registries of the ``qsdt_mm`` scope, and parts that are imported when they are first built.

The child registries make ``type='qsdt_mm.SpikeDrivenTransformer'`` work in any OpenMMLab config without
``custom_imports``: mmengine imports ``<scope>.registry`` and then the locations given here. What they hold is
registered in mmengine's root registries, where mmpretrain, mmdet and mmseg find it by its plain name.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import Registry

MODELS = Registry('model', parent=ROOT_MODELS, scope='qsdt_mm', locations=['qsdt_mm'])
HOOKS = Registry('hook', parent=ROOT_HOOKS, scope='qsdt_mm', locations=['qsdt_mm'])
DATASETS = Registry('dataset', parent=ROOT_DATASETS, scope='qsdt_mm', locations=['qsdt_mm'])


PACKAGES = dict(mmpretrain='onedl-mmpretrain', mmdet='onedl-mmdetection', mmseg='onedl-mmsegmentation')
"""What to install for a task library."""


def register_on_demand(registry: Registry, name: str, module: str, needs: str) -> None:
    """Register a part of a task library by name, and import it when it is first built.

    Importing mmpretrain, mmdet or mmseg takes seconds and each may be absent; so ``import qsdt_mm`` does not.

    Args:
        registry: the root registry.
        name: the class, as configs name it.
        module: where it is defined.
        needs: the library it builds on, said to the user when that is missing.
    """

    def build(**config: Any) -> Any:
        try:
            source = import_module(module)
        except ModuleNotFoundError as error:
            if error.name != needs:
                raise
            raise ImportError(
                f'{name} needs {needs}, which is not installed: pip install {PACKAGES.get(needs, needs)}'
            ) from None
        return getattr(source, name)(**config)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f'{name} of {module}, imported on demand.'
    registry.register_module(name=name, module=build)


for _name, _module, _needs in (
    ('SpikeLinearClsHead', 'heads.classification', 'mmpretrain'),
    ('SpikeFPN', 'necks.detection', 'mmdet'),
    ('SpikeRPNHead', 'heads.detection', 'mmdet'),
    ('SpikeRetinaHead', 'heads.detection', 'mmdet'),
    ('SpikeConvFCBBoxHead', 'heads.detection', 'mmdet'),
    ('SharedSpike2FCBBoxHead', 'heads.detection', 'mmdet'),
    ('SpikeFCNMaskHead', 'heads.detection', 'mmdet'),
):
    register_on_demand(ROOT_MODELS, _name, f'qsdt_mm.models.{_module}', needs=_needs)
register_on_demand(ROOT_DATASETS, 'Digits', 'qsdt_mm.datasets.digits', needs='mmpretrain')
