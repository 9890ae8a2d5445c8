"""What does not fit in a published checkpoint is named and refused."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published_tensors import ARCHS, CLASSES, publish

from qsdt_mm.errors import CheckpointError
from qsdt_mm.published.conversion import convert


@pytest.mark.parametrize(
    'name',
    [
        'neck.conv.weight',
        'block3.0.attn.extra.weight',
        'head.fc2.weight',
        'block9.0.mlp.fc1_conv.weight',
        'nothing',
        'nothing.act.alpha',
        'nothing.init_state',
        'head.running_mean',
        'block3.7.layer_scale1',
    ],
)
def test_left_over_tensors_are_refused(tensors, name):
    with pytest.raises(CheckpointError, match=f'has left over .*{re.escape(name)}'):
        convert(tensors | {name: torch.ones(1)})


def test_what_is_no_tensor_is_left_over(tensors):
    with pytest.raises(CheckpointError, match='has left over lr'):
        convert(dict(model=tensors | {'lr': 0.1}))


def test_left_over_tensors_are_counted(tensors):
    with pytest.raises(CheckpointError, match=r'x0\.w, x1\.w, x2\.w, \.\.\. \(50 in all\)$'):
        convert(tensors | {f'x{i}.w': torch.ones(1) for i in range(50)})


def test_dead_parameters_of_qsd_are_not_dead_in_espike(nets):
    published = publish(nets['espike'], 'espike') | {'head.init_state': torch.ones(1)}
    with pytest.raises(CheckpointError, match='has left over head.init_state'):
        convert(published)


@settings(max_examples=12, deadline=None)
@given(data=st.data(), family=st.sampled_from(sorted(ARCHS)))
def test_any_missing_tensor_is_named(nets, data, family):
    published = publish(nets[family], family)
    live = [name for name in published if '.act.' not in name and 'init_state' not in name]
    name = data.draw(st.sampled_from([name for name in live if not name.endswith('num_batches_tracked')]))
    del published[name]
    with pytest.raises(CheckpointError, match=f'(lacks|has no) {re.escape(name)}'):
        convert(published)


def test_counters_may_be_missing(nets, tensors):
    counters = [name for name in tensors if name.endswith('num_batches_tracked')]
    result = convert({name: tensor for name, tensor in tensors.items() if name not in counters})
    assert result.missing == sorted(counters)
    assert list(result.state_dict) == list(nets['qsd'].state_dict())
    assert result.matched == len(result.state_dict) - len(counters)
    filled = [tensor for name, tensor in result.state_dict.items() if name.endswith('num_batches_tracked')]
    assert len(filled) == len(counters) and all(t.dtype == torch.int64 and t == 0 for t in filled)


def test_tensors_get_storage_of_their_own(tensors):
    shared = torch.rand(10**6)  # a file that holds views of it would hold all of it
    tensors['head.bias'] = shared[:CLASSES]
    bias = convert(tensors).state_dict['head.fc.synapse.bias']
    assert torch.equal(bias, shared[:CLASSES])
    assert bias.untyped_storage().nbytes() == bias.numel() * bias.element_size()


def test_tensors_of_another_shape_are_refused(tensors):
    tensors['block4.0.mlp.fc1_bn.weight'] = torch.ones(2)
    with pytest.raises(CheckpointError, match=r'another shape block4\.0\.mlp\.fc1_bn\.weight \(2,\) instead of \(96'):
        convert(tensors)


@pytest.mark.parametrize('value', [-0.1, 0.0, float('nan'), float('inf')])
def test_steps_that_cannot_be_represented_are_refused(tensors, value):
    tensors['ConvBlock1_2.0.conv1.alpha'][3] = value
    with pytest.raises(CheckpointError, match=r'1 of 32 LSQ steps in ConvBlock1_2\.0\.conv1\.alpha'):
        convert(tensors)


def test_tiny_steps_are_noted(tensors):
    tensors['head.alpha'][:2] = 1e-8
    assert any(note.startswith('2 LSQ steps are below') for note in convert(tensors).notes)


@pytest.mark.parametrize(
    'tensor, words',
    [
        (torch.full((CLASSES,), float('nan')), 'head.bias that are not finite'),
        (torch.ones(CLASSES, dtype=torch.int64), 'head.bias in torch.int64'),
    ],
)
def test_values_that_are_no_weights_are_refused(tensors, tensor, words):
    with pytest.raises(CheckpointError, match=words):
        convert(tensors | {'head.bias': tensor})
