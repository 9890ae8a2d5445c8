"""Names from before the first release and those that took their place: old ones are refused in one line."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

ARGUMENTS = dict(levels='max_spike_count', real_input='input_kind')
"""Arguments of constructors, as configs give them."""

TYPES = dict(SharedSpike2FCBBoxHead='SpikeShared2FCBBoxHead')
"""Values of ``type`` in configs."""

MODULES = {
    'analysis.benchmark': 'analysis.timing',
    'analysis.firing_hook': 'engine.hooks.firing',
    'analysis.plain': 'analysis.reference',
    'analysis.plots': 'visualization.energy',
    'analysis.reconstruction': 'engine.hooks.reconstruction',
    'compat.loading': 'fileio.safe_load',
    'datasets.checks': 'datasets.labels',
    'datasets.event_files': 'datasets.events.files',
    'datasets.event_pictures': 'engine.hooks.event_pictures',
    'datasets.event_transforms': 'datasets.events.transforms',
    'datasets.moving_digits': 'datasets.events.moving_digits',
    'engine.amp': 'engine.cpu_amp',
    'engine.checkpoint': 'fileio.checkpoint',
    'engine.cli': 'cli',
    'engine.config_check': 'cli.cfg_options',
    'engine.errors': 'errors',
    'engine.figures': 'visualization.figures',
    'engine.noise': 'compat.noise',
    'engine.storage': 'fileio.atomic',
    'engine.sync_norm': 'engine.cpu_distributed',
    'export': 'published',
    'inference.answers': 'analysis.agreement',
    'inference.comparison': 'analysis.unit_errors',
    'models.kernels': 'ops.triton',
    'models.layers.layout': 'ops.layout',
    'models.neurons.saving': 'ops.compact_saving',
    'validation': 'errors',
}
"""Modules of the package; what was inside a package that moved is inside the new one."""

NAMES = {
    'CIFAR10DVS': 'datasets.events.datasets.CIFAR10DVS',
    'DVS128Gesture': 'datasets.events.datasets.DVS128Gesture',
    'EventDataset': 'datasets.events.datasets.EventDataset',
    'EventFiles': 'datasets.events.datasets.EventFiles',
    'FolderEvents': 'datasets.events.datasets.FolderEvents',
    'HARDVS': 'datasets.events.datasets.HARDVS',
    'Ledger': 'ops.compact_saving.CompressedTensors',
    'LowBitWeight': 'models.quantization.QuantWeightMixin',
    'SharedSpike2FCBBoxHead': 'models.heads.detection.SpikeShared2FCBBoxHead',
    'ShortForm': 'ops.compact_saving.Compressed',
    'SpikingPart': 'models.layers.spiking.SpikingMixin',
    'Visibility': 'models.selfsup.masking.PatchMask',
    'VisibleBatchNorm2d': 'models.selfsup.masking.SparseBatchNorm2d',
    'agreement': 'analysis.agreement.agreement',
    'answers': 'analysis.agreement.predictions',
    'build_samples': 'cli.data_checks.build_samples',
    'carrier_for': 'inference.exact.accumulator_dtype_for',
    'check_annotation_files': 'cli.annotation_checks.check_annotation_files',
    'check_coco_file': 'cli.annotation_checks.check_coco_file',
    'check_list_file': 'cli.annotation_checks.check_list_file',
    'check_loader': 'cli.data_checks.check_loader',
    'check_same_classes': 'cli.class_checks.check_same_classes',
    'film': 'datasets.events.moving_digits.render_video',
    'halve': 'ops.compact_saving.pack_nibbles',
    'integer_range': 'models.quantization.quant_range',
    'integer_weight': 'inference.conversion.weight_and_step',
    'note_derived': 'ops.compact_saving.register_recompute',
    'note_product': 'ops.compact_saving.register_product',
    'note_spikes': 'models.neurons.modules.register_spikes',
    'recognise': 'published.recognition.infer_network',
    'same_bits': 'analysis.agreement.same_bits',
    'see_visible_only': 'models.selfsup.masking.mask_stages',
    'settle': 'ops.layout.to_preferred_memory_format',
    'settle_arch': 'published.recognition.complete_arch',
    'strip': 'visualization.events.contact_sheet',
    'try_sample': 'cli.data_checks.try_sample',
    'unhalve': 'ops.compact_saving.unpack_nibbles',
    'unit_errors': 'analysis.unit_errors.unit_errors',
}
"""Classes and functions that were in a module which is still there, be it under a new name; and where they are."""

ATTRIBUTES = dict(levels='max_spike_count', shares='count_distribution', weight_in_use='compute_weight')
"""Attributes of objects."""

Class = TypeVar('Class', bound=type)


def renamed(old: str, new: str) -> str:
    """Return the line that names the new name."""
    return f'{old} is called {new} now (docs/en/migration.md)'


def refuse_old_arguments(cls: Class) -> Class:
    """Decorate a class: refuse keyword arguments of before that it does not take, in a line of their own.

    Raises:
        ValueError: by the constructor, in place of Python's TypeError.
    """
    init = cls.__init__

    @functools.wraps(init)  # a signature that is asked for is the constructor's own
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in ARGUMENTS.keys() & kwargs.keys():
            raise ValueError(f'{type(self).__name__}: {renamed(name, ARGUMENTS[name])}')
        init(self, *args, **kwargs)

    cls.__init__ = __init__
    return cls


def refuse_old_attributes(cls: Class) -> Class:
    """Decorate a class: name the new attribute in the AttributeError that an old one ends in."""

    def __getattr__(self: Any, name: str) -> Any:
        if name in ATTRIBUTES:
            raise AttributeError(f'{type(self).__name__}: {renamed(name, ATTRIBUTES[name])}')
        inherited = getattr(super(cls, self), '__getattr__', None)  # of torch's modules, for their parameters
        if inherited is None:
            raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')
        return inherited(name)

    cls.__getattr__ = __getattr__
    return cls


def refuse_old_names(module: str, *names: str) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for a module that refuses some of :data:`NAMES`, once its own.

    >>> __getattr__ = refuse_old_names('qsdt_mm.ops.layout', 'settle')
    >>> __getattr__('settle')
    Traceback (most recent call last):
        ...
    ImportError: qsdt_mm.ops.layout.settle is called qsdt_mm.ops.layout.to_preferred_memory_format now
    (docs/en/migration.md)
    """

    def __getattr__(name: str) -> Any:
        if name in names:  # of an AttributeError an import statement would drop the words
            raise ImportError(renamed(f'{module}.{name}', f'qsdt_mm.{NAMES[name]}'))
        raise AttributeError(f'module {module!r} has no attribute {name!r}')

    return __getattr__


def refuse_old_types(registry: Any) -> None:
    """Register, under each old value of ``type``, a function that raises a ValueError with the new one."""

    def refusing(old: str) -> Any:
        def refuse(**config: Any) -> None:
            raise ValueError(renamed(old, TYPES[old]))

        return refuse

    for old in TYPES:
        registry.register_module(name=old, module=refusing(old))


class MovedModules:
    """Finder that names a moved module's new place; asked first, for an older copy may be installed too.

    >>> MovedModules.find_spec('qsdt_mm.export')
    Traceback (most recent call last):
        ...
    ImportError: qsdt_mm.export is called qsdt_mm.published now (docs/en/migration.md)
    """

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> None:
        """Raise an error for modules that moved; return None for any other.

        Raises:
            ImportError: the module has moved.
        """
        package, _, name = fullname.partition('.')
        if package == 'qsdt_mm' and name in MODULES:
            raise ImportError(renamed(fullname, f'{package}.{MODULES[name]}'))

    @classmethod
    def install(cls) -> None:
        """Have Python ask; once is enough."""
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)


def old_names(config: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Mapping, str]]:
    """Find keys and types of a configuration that may be old names: their path, their dict, and what to call them.

    A key may be another class's own; whoever asks knows what the dict's ``type`` takes.
    """
    found = []
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key in ARGUMENTS:
                found.append(((*path, key), config, ARGUMENTS[key]))
            elif key == 'type' and isinstance(value, str) and value.rpartition('.')[2] in TYPES:
                found.append(((*path, key), config, TYPES[value.rpartition('.')[2]]))
            found += old_names(value, (*path, str(key)))
    elif isinstance(config, (list, tuple)):
        for i, item in enumerate(config):
            found += old_names(item, (*path, str(i)))
    return found
