"""Examples in docstrings run as they stand, and each public class has one."""

import doctest
import inspect
import pkgutil
from importlib import import_module

import pytest
import torch

import qsdt_mm

LIBRARIES = 'mmpretrain', 'mmdet', 'mmseg', 'triton'
MODULES = sorted(module.name for module in pkgutil.walk_packages(qsdt_mm.__path__, 'qsdt_mm.', onerror=lambda _: None))
NEEDS = {
    'qsdt_mm.datasets.digits': 'sklearn',
    'qsdt_mm.published.conversion': 'mmpretrain',
    'qsdt_mm.published.recognition': 'mmpretrain',
    'qsdt_mm.published.reverse': 'mmpretrain',
}
"""Libraries that examples need and the modules themselves do not."""
WITHOUT = {
    'qsdt_mm.engine.cpu_distributed.CpuDistributedDataParallel': 'needs a group of processes',
    'qsdt_mm.engine.hooks.event_pictures.EventVisualizationHook': 'needs the visualizer of a run, one for the process',
}
"""Classes without an example, and why."""


def loaded(name):
    """Import a module, or skip the test where the task library that it needs is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in LIBRARIES:
            raise
        pytest.skip(f'{error.name} is not installed')


@pytest.mark.parametrize('name', MODULES)
def test_the_examples_of_a_module_give_what_they_say(name):
    module = loaded(name)
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    said = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name, extraglobs=dict(torch=torch)):
        runner.run(example, out=said.append)
    assert not runner.failures, ''.join(said)


@pytest.mark.parametrize('name', MODULES)
def test_each_public_class_has_an_example(name):
    classes = [
        member
        for label, member in inspect.getmembers(loaded(name), inspect.isclass)
        if member.__module__ == name and not label.startswith('_')
    ]
    without = {f'{name}.{member.__name__}' for member in classes if '>>>' not in (member.__doc__ or '')}
    assert without == {path for path in WITHOUT if path.rpartition('.')[0] == name}


def test_what_needs_no_example_is_there():
    assert {path.rpartition('.')[0] for path in WITHOUT} | NEEDS.keys() <= set(MODULES)
