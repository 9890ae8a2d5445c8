"""What checkpoints say of halves: recorded beside the tensors, followed on loading, and half up where it is missing."""

import copy
import pickle

import pytest
import torch
from halves import rules
from mmengine.runner import load_checkpoint, save_checkpoint
from mmengine.runner.checkpoint import get_state_dict
from torch import nn

from qsdt_mm import IELIF, SpikeDrivenTransformer
from qsdt_mm.errors import CheckpointError
from qsdt_mm.fileio.checkpoint import load_checkpoint_safely, load_weights, model_weights
from qsdt_mm.models.layers.spiking import SpikingMixin

ARCH = dict(family='espike', widths=(4, 4, 4, 16, 8), depths=(0, 0, 0, 1, 0), num_heads=1)
QSD = dict(ARCH, family='qsd')
MISSING = "has no rounding rule on record: its neurons round 'half_up', as all did when it was made"


pytestmark = pytest.mark.usefixtures('said')


def network(rounding=None, arch=ARCH, **options):
    return SpikeDrivenTransformer(arch, neuron=None if rounding is None else dict(rounding=rounding), **options)


def without_notes(state):
    """What older code saved: torch's notes of version 1, and no rule."""
    state._metadata = type(state._metadata)((name, dict(version=1)) for name in state._metadata)
    return state


def saved(path, model, prefix='', notes='new'):
    """A file of a model's weights."""
    state = nn.ModuleDict({prefix: model}).state_dict() if prefix else model.state_dict()
    state = {'new': lambda s: s, 'old': without_notes, 'none': dict}[notes](state)
    torch.save(dict(meta={}, state_dict=state), path)
    return str(path)


def test_presets_and_what_a_config_says():
    assert rules(network()) == {'half_even'} and rules(network(arch=QSD)) == {'half_up'}
    assert rules(SpikeDrivenTransformer('e-3m')) == {'half_even'}
    with torch.device('meta'):
        assert rules(SpikeDrivenTransformer('e-83m')) == {'half_up'}
    assert rules(network('half_up')) == {'half_up'} and rules(network('half_even', QSD)) == {'half_even'}
    full = SpikeDrivenTransformer(ARCH, neuron=dict(type='IELIF', threshold=0.5))  # of which it says nothing
    assert rules(full) == {'half_even'}
    full = SpikeDrivenTransformer(ARCH, neuron=dict(type='IELIF', rounding='half_up'))
    assert rules(full) == {'half_up'}
    assert SpikeDrivenTransformer(ARCH, neuron=dict(type='LIF')).stages[1].downsample.neuron.threshold == 1.0
    with pytest.raises(ValueError, match="rounding='even' is not allowed: expected half_up or half_even"):
        network('even')


def test_a_threshold_and_a_scale_of_the_preset_stay():
    neuron = network('half_up', QSD).stages[1].downsample.neuron
    assert (neuron.threshold, neuron.scale, neuron.rounding) == (0.25, 0.25, 'half_up')
    assert IELIF().rounding == 'half_up' and 'rounding=half_even' in repr(IELIF(rounding='half_even'))


def test_names_of_tensors_are_what_they_were():
    assert not IELIF().state_dict()
    names = network().state_dict()
    assert not [name for name in names if 'rounding' in name or 'neuron' in name]


def test_the_rule_is_recorded_and_followed(tmp_path, said):
    file = saved(tmp_path / 'c.pth', network('half_up'))
    model = network()
    assert not load_weights(model, model_weights(load_checkpoint_safely(file), file))
    assert rules(model) == {'half_up'}
    assert said == [f"{file} has neurons on record that round 'half_up', not 'half_even' as new ones here"]
    # It is recorded again as it is, and the file is not named twice.
    assert not load_weights(network(), model_weights(load_checkpoint_safely(file), file))
    file = saved(tmp_path / 'd.pth', model)
    other = network(arch=dict(ARCH))
    load_weights(other, model_weights(load_checkpoint_safely(file), file))
    assert rules(other) == {'half_up'} and len(said) == 2


@pytest.mark.parametrize('rounding', [None, 'half_up'])
def test_nothing_is_said_where_nothing_changes(tmp_path, said, rounding):
    file = saved(tmp_path / 'c.pth', network(rounding))
    model = network(rounding)
    load_weights(model, model_weights(load_checkpoint_safely(file), file))
    assert rules(model) == {rounding or 'half_even'} and not said


@pytest.mark.parametrize('notes', ['old', 'none'])
def test_no_record_means_half_up(tmp_path, said, notes):
    file = saved(tmp_path / 'c.pth', network(), notes=notes)
    model = network()
    load_weights(model, model_weights(load_checkpoint_safely(file), file))
    assert rules(model) == {'half_up'}
    assert said == [f"{file} {MISSING}, not 'half_even' as new ones here"]


@pytest.mark.parametrize('notes', ['old', 'none'])
def test_it_is_said_of_networks_that_always_did(tmp_path, said, notes):
    file = saved(tmp_path / 'c.pth', network(arch=QSD), notes=notes)
    model = network(arch=QSD)
    load_weights(model, model_weights(load_checkpoint_safely(file), file))
    assert rules(model) == {'half_up'} and said == [f'{file} {MISSING}']


def test_what_the_config_says_holds(tmp_path, said):
    old, new = (saved(tmp_path / f'{notes}.pth', network('half_up'), notes=notes) for notes in ('old', 'new'))
    for file in (old, new):
        model = network('half_even')
        load_weights(model, model_weights(load_checkpoint_safely(file), file))
        assert rules(model) == {'half_even'}
    assert said == [
        f"{old} {MISSING}; the config says 'half_even', which holds",
        f"{new} has neurons on record that round 'half_up'; the config says 'half_even', which holds",
    ]


def test_the_libraries_own_loading(tmp_path, said):
    """mmengine's, which knows nothing of this; once a load, however many neurons there are."""
    for notes in ('new', 'old'):
        file = saved(tmp_path / f'{notes}.pth', network('half_up'), notes=notes)
        for _ in range(2):
            model = network()
            load_checkpoint(model, file)
            assert rules(model) == {'half_up'}
    assert len(said) == 4 and all(line.startswith('the checkpoint has n') for line in said)


def test_the_libraries_own_saving(tmp_path):
    model = network('half_up')
    save_checkpoint(dict(state_dict=get_state_dict(model)), str(tmp_path / 'c.pth'))
    found = network()
    load_weights(found, model_weights(load_checkpoint_safely(tmp_path / 'c.pth')))
    assert rules(found) == {'half_up'}


def test_a_parallel_wrapper_leaves_its_prefix(tmp_path):
    model = network('half_up')
    file = saved(tmp_path / 'c.pth', model, prefix='module')
    found = network()
    assert not load_weights(found, model_weights(load_checkpoint_safely(file), file))
    assert rules(found) == {'half_up'}


@pytest.mark.parametrize('notes', ['new', 'old', 'none'])
def test_a_pretrained_part(tmp_path, said, notes):
    """Of which mmengine drops the notes."""
    file = saved(tmp_path / 'c.pth', network('half_up'), prefix='backbone', notes=notes)
    model = network(init_cfg=dict(type='Pretrained', checkpoint=file, prefix='backbone.'))
    model.init_weights()
    assert rules(model) == {'half_up'} and len(said) == 1 and said[0].startswith(f'{file} has n')
    model = network('half_even', init_cfg=dict(type='Pretrained', checkpoint=file, prefix='backbone.'))
    model.init_weights()
    assert rules(model) == {'half_even'}


@pytest.mark.parametrize('notes', ['old', 'none'])
def test_parts_that_a_checkpoint_does_not_have_stay(tmp_path, notes):
    """A new neck behind an old backbone: two rules in one network, both recorded when it is saved."""
    file = saved(tmp_path / 'c.pth', network(), prefix='backbone', notes=notes)
    both = nn.ModuleDict(dict(backbone=network(), neck=network()))
    load_weights(both, model_weights(load_checkpoint_safely(file), file))
    assert rules(both['backbone']) == {'half_up'} and rules(both['neck']) == {'half_even'}
    file = saved(tmp_path / 'd.pth', both)
    found = nn.ModuleDict(dict(backbone=network(), neck=network()))
    load_weights(found, model_weights(load_checkpoint_safely(file), file))
    assert rules(found['backbone']) == {'half_up'} and rules(found['neck']) == {'half_even'}


def test_copies_and_moves_in_memory(said):
    model = network('half_up')
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert rules(twin) == {'half_up'}
    other = network()
    other.load_state_dict(dict(model.state_dict()))  # a plain dict is no file: nothing is known, nothing changes
    assert rules(other) == {'half_even'} and not said
    other.load_state_dict(model.state_dict())
    assert rules(other) == {'half_up'}


def test_modules_pickled_before_there_was_a_rule():
    neuron = IELIF()
    vars(neuron).pop('rounding', None)
    assert neuron(torch.tensor([0.5])).item() == 0.25


@pytest.mark.parametrize('rule', ['up', 1, None, ['half_up']])
def test_rules_that_there_are_not(tmp_path, rule):
    state = network().state_dict()
    for notes in state._metadata.values():
        notes['rounding'] = rule
    torch.save(dict(state_dict=state), tmp_path / 'c.pth')
    with pytest.raises(CheckpointError, match='c.pth: rounding=.* is not allowed: expected half_up or half_even'):
        load_weights(network(), model_weights(load_checkpoint_safely(tmp_path / 'c.pth'), tmp_path / 'c.pth'))


@pytest.mark.parametrize('notes', [7, 'x', {3: 4, 'stages': 5}, {'': {}}])
def test_notes_that_are_none(tmp_path, notes):
    state = network().state_dict()
    state._metadata = notes
    torch.save(dict(state_dict=state), tmp_path / 'c.pth')
    model = network()
    assert not load_weights(model, model_weights(load_checkpoint_safely(tmp_path / 'c.pth')))
    assert rules(model) == {'half_up'}


def test_parts_of_detectors_and_segmentors_round_to_even():
    class Base(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

    class Spiking(SpikingMixin, Base):
        pass

    assert rules(Spiking()) == {'half_even'}
    assert rules(Spiking(neuron=dict(type='IELIF', threshold=0.5))) == {'half_even'}
    assert rules(Spiking(neuron=dict(rounding='half_up'))) == {'half_up'}
