"""Published checkpoints become ours, whatever they are wrapped in."""

import argparse

import pytest
import torch
from published_tensors import ARCHS, CLASSES, assert_same, make_net, publish

from qsdt_mm.errors import CheckpointError
from qsdt_mm.models.backbones.presets import FAMILIES
from qsdt_mm.published.conversion import convert
from qsdt_mm.published.recognition import find_weights

CONTAINERS = {
    'bare': lambda t: t,
    'training file': lambda t: dict(model=t, optimizer={}, epoch=3, scaler={}, args=argparse.Namespace(model='x')),
    'DDP': lambda t: dict(model={f'module.{k}': v for k, v in t.items()}),
    'mmengine': lambda t: dict(
        meta={}, state_dict={k if k.startswith('head') else f'backbone.{k}': v for k, v in t.items()}
    ),
    'mmengine, DDP, own head': lambda t: dict(
        state_dict={
            'module.' + (k.replace('head.', 'head.fc.') if k.startswith('head') else f'backbone.{k}'): v
            for k, v in t.items()
        }
    ),
    'mmengine, whole network as backbone': lambda t: dict(state_dict={f'backbone.{k}': v for k, v in t.items()}),
}


@pytest.mark.parametrize('container', CONTAINERS)
@pytest.mark.parametrize('family', ARCHS)
def test_every_container_gives_every_tensor(nets, family, container):
    net, published = nets[family], publish(nets[family], family)
    result = convert(CONTAINERS[container](published))
    assert_same(result.state_dict, net)
    assert (result.arch, result.in_channels, result.num_classes) == (ARCHS[family], 2, CLASSES)
    assert result.weight_bits == FAMILIES[family].weight_bits
    steps = sum(name.endswith('quantizer.step') for name in net.state_dict())
    assert result.matched == len(net.state_dict())
    assert result.dropped == ({'init_state': steps, 'act.*': 4 * steps} if family == 'qsd' else {})
    assert (result.missing, result.derived) == ([], [])


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_averaged_weights_are_taken_only_on_request(nets, prefix):
    other = make_net('qsd', seed=1)
    ema = {f'{prefix}{name}': tensor for name, tensor in publish(other, 'qsd').items()}
    ema |= {'n_averaged': torch.tensor(9)} if prefix else {}
    checkpoint = dict(model=publish(nets['qsd'], 'qsd'), model_ema=ema)
    assert_same(convert(checkpoint, weights='ema').state_dict, other)
    plain = convert(checkpoint)
    assert_same(plain.state_dict, nets['qsd'])
    assert any('model_ema' in note for note in plain.notes)
    with pytest.raises(CheckpointError, match='has no ema weights'):
        convert(dict(model=ema), weights='ema')
    with pytest.raises(CheckpointError, match='has no model weights.*"ema".*model_ema'):
        convert(dict(model_ema=ema))
    with pytest.raises(ValueError, match="weights='best' is not allowed"):
        convert(checkpoint, weights='best')


@pytest.mark.parametrize(
    'checkpoint, words',
    [
        ([1, 2], 'holds a list'),
        ({}, 'holds no model weights'),
        ({'epoch': 3}, 'holds no model weights.*epoch'),
        ({'model': {}}, 'not a published QSD, E-SpikeFormer or Spike-MAE'),
        ({'fc.weight': torch.ones(2)}, r'its tensors are fc\.weight'),
        ({'state_dict': {'backbone.stages.0.downsample.synapse.weight': torch.ones(2)}}, 'trained with this package'),
    ],
)
def test_other_content_is_refused(checkpoint, words):
    with pytest.raises(CheckpointError, match=words):
        convert(checkpoint)


def test_the_same_tensor_under_two_prefixes_is_refused(tensors):
    with pytest.raises(CheckpointError, match='head.bias more than once'):
        find_weights(tensors | {'module.head.bias': torch.ones(CLASSES)})
