"""Registries of the ``qsdt_mm`` scope, and parts that are imported when they are first built.

The child registries make ``type='qsdt_mm.SpikeDrivenTransformer'`` work in any OpenMMLab config without
``custom_imports``: mmengine imports ``<scope>.registry`` and then the locations given here. What they hold is
registered in mmengine's root registries, where mmpretrain, mmdet and mmseg find it by its plain name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import FUNCTIONS as ROOT_FUNCTIONS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import DefaultScope, Registry

from qsdt_mm.compat.distributions import to_install
from qsdt_mm.compat.renamed import MovedModules, refuse_old_types

MODELS = Registry('model', parent=ROOT_MODELS, scope='qsdt_mm', locations=['qsdt_mm'])
HOOKS = Registry('hook', parent=ROOT_HOOKS, scope='qsdt_mm', locations=['qsdt_mm'])
DATASETS = Registry('dataset', parent=ROOT_DATASETS, scope='qsdt_mm', locations=['qsdt_mm'])
FUNCTIONS = Registry('function', parent=ROOT_FUNCTIONS, scope='qsdt_mm', locations=['qsdt_mm'])
TRANSFORMS = Registry('transform', parent=ROOT_TRANSFORMS, scope='qsdt_mm', locations=['qsdt_mm'])


def register_on_demand(registry: Registry, name: str, modules: Mapping[str, str]) -> None:
    """Register a part of a task library by name, and import it when it is first built.

    Importing mmpretrain, mmdet or mmseg takes seconds and each may be absent; so ``import qsdt_mm`` does not.

    Args:
        registry: the root registry.
        name: the class, as configs name it.
        modules: where it is defined, by the library it builds on, which is named to the user when it is missing. Of
            several, the one of the default scope is taken, else the first.
    """

    def find() -> type:
        scope = DefaultScope.get_current_instance()
        needs = scope.scope_name if scope is not None and scope.scope_name in modules else next(iter(modules))
        try:
            source = import_module(modules[needs])
        except ModuleNotFoundError as error:
            if error.name != needs:
                raise
            raise ImportError(
                f'{name} needs {needs}, which is not installed: pip install {to_install(needs)}'
            ) from None
        return getattr(source, name)

    def build(**config: Any) -> Any:
        return find()(**config)

    build.find = find
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f'{name} of {", ".join(modules.values())}, imported on demand.'
    registry.register_module(name=name, module=build)


LIBRARY_MODULES = dict(mmpretrain='classification', mmdet='detection', mmseg='segmentation')
for _name, _kind, *_libraries in (
    ('SpikeLinearClsHead', 'heads', 'mmpretrain'),
    ('SpikeTwoHeadClsHead', 'heads', 'mmpretrain'),
    ('SpikeFPN', 'necks', 'mmdet', 'mmseg'),
    ('SpikeCSPNeXtPAFPN', 'necks', 'mmdet'),
    ('SpikeRPNHead', 'heads', 'mmdet'),
    ('SpikeRetinaHead', 'heads', 'mmdet'),
    ('SpikeRTMDetSepBNHead', 'heads', 'mmdet'),
    ('SpikeConvFCBBoxHead', 'heads', 'mmdet'),
    ('SpikeShared2FCBBoxHead', 'heads', 'mmdet'),
    ('SpikeFCNMaskHead', 'heads', 'mmdet'),
    ('SpikeFPNHead', 'heads', 'mmseg'),
    ('SpikeFCNHead', 'heads', 'mmseg'),
    ('SpikeUPerHead', 'heads', 'mmseg'),
    ('MeanScoreTTAModel', 'tta', 'mmpretrain'),
    ('InstanceTTAModel', 'tta', 'mmdet'),
):
    register_on_demand(
        ROOT_MODELS, _name, {library: f'qsdt_mm.models.{_kind}.{LIBRARY_MODULES[library]}' for library in _libraries}
    )
for _name in ('SpikeMAE', 'SpikeMAEDecoder'):
    register_on_demand(ROOT_MODELS, _name, {'mmpretrain': 'qsdt_mm.models.selfsup.spike_mae'})
register_on_demand(ROOT_MODELS, 'SpikeImageClassifier', {'mmpretrain': 'qsdt_mm.models.classifiers'})
register_on_demand(ROOT_MODELS, 'DistilledClassifier', {'mmpretrain': 'qsdt_mm.models.distillation.classifier'})
register_on_demand(ROOT_MODELS, 'AugmentingClsDataPreprocessor', {'mmpretrain': 'qsdt_mm.datasets.batch_augmentation'})
register_on_demand(ROOT_DATASETS, 'Digits', {'mmpretrain': 'qsdt_mm.datasets.digits'})
register_on_demand(ROOT_DATASETS, 'InMemoryImages', {'mmpretrain': 'qsdt_mm.datasets.memory'})
for _name in ('EventFiles', 'DVS128Gesture', 'CIFAR10DVS', 'HARDVS', 'HARDVSPictures', 'NMNIST', 'NCaltech101'):
    register_on_demand(ROOT_DATASETS, _name, {'mmpretrain': 'qsdt_mm.datasets.events.datasets'})
for _name in ('CheckLabels', 'LoadDeepImage'):
    register_on_demand(ROOT_TRANSFORMS, _name, {'mmcv': 'qsdt_mm.datasets.transforms'})
register_on_demand(ROOT_TRANSFORMS, 'LoadLabelMap', {'mmseg': 'qsdt_mm.datasets.label_loading'})
for _name in ('LoadEvents', 'LoadEventFrames', 'LoadDrawnEvents', 'EventsToFrames', 'AugmentFrames', 'RandomRoll'):
    register_on_demand(ROOT_TRANSFORMS, _name, {'mmcv': 'qsdt_mm.datasets.events.transforms'})
register_on_demand(ROOT_HOOKS, 'EventVisualizationHook', {'mmpretrain': 'qsdt_mm.engine.hooks.event_pictures'})
register_on_demand(ROOT_HOOKS, 'RunReportHook', {'mmengine': 'qsdt_mm.cli.run_report'})
refuse_old_types(ROOT_MODELS)
MovedModules.install()
