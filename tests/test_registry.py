"""Names in configs: found from mmengine's root, from other scopes, and on demand."""

import importlib.util
import json
import textwrap
from pathlib import Path

import fresh_python
import pytest
from mmengine.registry import MODELS, DefaultScope, Registry

import qsdt_mm
from qsdt_mm import registry

ROOT = Path(__file__).parents[1]
needs_mmpretrain = pytest.mark.skipif(importlib.util.find_spec('mmpretrain') is None, reason='needs mmpretrain')


def run_python(code):
    """Run code in a fresh interpreter at the root of the repository; what its last line printed, from JSON."""
    done = fresh_python.run(['-c', textwrap.dedent(code)], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('name', ['SpikeDrivenTransformer', 'IELIF', 'LIF', 'QuantConv2d', 'QuantLinear'])
def test_names_are_in_the_root_registry(name):
    found = MODELS.get(name)
    assert found is getattr(qsdt_mm.models, name)
    assert registry.MODELS.get(name) is found  # and from our own scope


def test_children_of_the_root():
    for child, kind in (
        (registry.MODELS, 'model'),
        (registry.HOOKS, 'hook'),
        (registry.DATASETS, 'dataset'),
        (registry.TRANSFORMS, 'transform'),
    ):
        assert (child.scope, child.name, child.parent.scope) == ('qsdt_mm', kind, 'mmengine')


def test_a_scoped_name_needs_no_custom_imports():
    """A fresh process, where nothing of ours was imported: mmengine finds the package by the scope alone."""
    result = run_python("""
        import json, sys
        from mmengine.registry import MODELS
        assert 'qsdt_mm' not in sys.modules
        arch = dict(family='qsd', widths=(4, 4, 8, 8, 8), depths=(0, 0, 0, 1, 0), num_heads=2)
        model = MODELS.build(dict(type='qsdt_mm.SpikeDrivenTransformer', arch=arch, neuron=dict(type='qsdt_mm.LIF')))
        print(json.dumps([type(model).__module__, type(model.stages[1].downsample.neuron).__module__]))
    """)
    assert result == ['qsdt_mm.models.backbones.spike_driven_transformer', 'qsdt_mm.models.neurons.modules']


@needs_mmpretrain
def test_plain_names_are_found_from_another_scope():
    """As in a config of mmpretrain: its default scope, our backbone and head, an activation of its own as neuron."""
    result = run_python("""
        import json, warnings
        warnings.simplefilter('ignore')
        import torch
        import qsdt_mm
        from mmengine.registry import MODELS, DefaultScope
        from mmpretrain.registry import MODELS as PRETRAIN
        DefaultScope.get_instance('here', scope_name='mmpretrain')
        assert PRETRAIN.get('SpikeDrivenTransformer') is qsdt_mm.SpikeDrivenTransformer
        arch = dict(family='qsd', widths=(4, 4, 8, 8, 16), depths=(0, 0, 0, 1, 0), num_heads=2)
        backbone = dict(type='SpikeDrivenTransformer', arch=arch, time_steps=2)
        model = MODELS.build(dict(
            type='ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'),
            head=dict(type='SpikeLinearClsHead', num_classes=10, in_channels=16, weight_bits=4)))
        logits = model(torch.randn(2, 3, 32, 32))
        other = MODELS.build(dict(backbone, neuron=dict(type='QuickGELU')))
        print(json.dumps(dict(
            classifier=type(model).__module__.split('.')[0], logits=list(logits.shape),
            head=sum(p.numel() for p in model.head.parameters()),
            neuron=type(other.stages[1].downsample.neuron).__name__)))
    """)
    # The head: 16 x 10 weights, 10 biases, 10 steps.
    assert result == dict(classifier='mmpretrain', logits=[2, 10], head=180, neuron='QuickGELU')


def on_demand(module, needs):
    room = Registry('room')
    registry.register_on_demand(room, 'Late', {needs: module})
    return room


def test_on_demand_builds_the_class_behind_the_name():
    room = Registry('room')
    registry.register_on_demand(room, 'IELIF', dict(mmpretrain='qsdt_mm.models.neurons.modules'))
    neuron = room.build(dict(type='IELIF', max_spike_count=3))
    assert isinstance(neuron, qsdt_mm.IELIF) and neuron.max_spike_count == 3


def test_on_demand_says_what_to_install():
    room = on_demand('a_library_that_is_not_there.heads', 'a_library_that_is_not_there')
    with pytest.raises(ImportError) as error:
        room.build(dict(type='Late'))
    assert str(error.value) == (
        'Late needs a_library_that_is_not_there, which is not installed: pip install a_library_that_is_not_there'
    )


def test_on_demand_does_not_blame_the_library_for_another_missing_module():
    room = on_demand('another_module_that_is_not_there', 'mmpretrain')
    with pytest.raises(ModuleNotFoundError, match='another_module_that_is_not_there'):
        room.build(dict(type='Late'))


def test_on_demand_takes_the_one_of_the_default_scope():
    room = Registry('room')
    modules = dict(first='a_module_that_is_not_there', second='qsdt_mm.models.neurons.modules')
    registry.register_on_demand(room, 'LIF', modules)
    with DefaultScope.overwrite_default_scope('second'):
        assert isinstance(room.build(dict(type='LIF')), qsdt_mm.LIF)
    with DefaultScope.overwrite_default_scope('third'), pytest.raises(ModuleNotFoundError):
        room.build(dict(type='LIF'))
