"""Published encoders of Spike-MAE become backbones."""

import re
from dataclasses import replace

import pytest
import torch
from published_tensors import ARCHS, publish
from torch import nn

from qsdt_mm import SpikeDrivenTransformer, load_published
from qsdt_mm.errors import CheckpointError
from qsdt_mm.published import load_backbone
from qsdt_mm.published.conversion import convert
from qsdt_mm.published.files import convert_file


@pytest.fixture
def pretraining(nets):
    """Published tensors of a Spike-MAE network, before fine-tuning."""
    published = publish(nets['espike-large'], 'espike-large')
    tensors = {
        name: tensor for name, tensor in published.items() if 'layer_scale' not in name and not name.startswith('head')
    }
    norm = {f'norm.{name}': tensor for name, tensor in nn.BatchNorm2d(24).state_dict().items()}
    decoder = {f'decoder_{name}': torch.ones(2) for name in ('embed.weight', 'blocks.0.norm1.weight', 'pos_embed')}
    return tensors | norm | decoder | {'mask_token': torch.ones(1), 'pos_embed': torch.ones(1)}


def test_the_encoder_of_spike_mae_becomes_a_backbone(tmp_path, nets, pretraining):
    path, out = tmp_path / 'mae.pth', tmp_path / 'out.pth'
    torch.save(dict(model=pretraining), path)
    result = convert_file(path, out)
    assert result.arch == replace(ARCHS['espike-large'], layer_scale=None)
    assert (result.num_classes, result.weight_bits) == (None, 32)
    assert result.dropped == {'decoder_*': 3, 'mask_token': 1, 'pos_embed': 1}
    assert {name.split('.')[0] for name in result.state_dict} == {'backbone', 'norm'}
    checkpoint = torch.load(out, weights_only=True)
    assert checkpoint['meta']['format'] == 'qsdt_mm encoder' and checkpoint['meta']['num_classes'] is None
    wanted = {n: t for n, t in nets['espike-large'].backbone.state_dict().items() if '.gain.' not in n}
    for file in (path, out):
        state = load_backbone(file, with_cp=True).state_dict()
        assert list(state) == list(wanted) and all(torch.equal(state[n], t) for n, t in wanted.items())
    with pytest.raises(CheckpointError, match='converted already'):
        convert_file(out, tmp_path / 'again.pth')


def test_fine_tuning_starts_from_a_converted_encoder(tmp_path, pretraining):
    path, out = tmp_path / 'mae.pth', tmp_path / 'out.pth'
    torch.save(dict(model=pretraining), path)
    convert_file(path, out)
    init = dict(type='Pretrained', checkpoint=str(out), prefix='backbone.')
    backbone = SpikeDrivenTransformer(ARCHS['espike-large'], in_channels=2, init_cfg=init)
    backbone.init_weights()
    gains = [t for n, t in backbone.state_dict().items() if '.gain.' in n]
    assert len(gains) == 4 and all((gain == 1e-6).all() for gain in gains)
    conv = pretraining['downsample3.encode_conv.weight']
    assert torch.equal(backbone.stages[3].downsample.synapse.weight, conv)


def test_presets_fit_an_encoder_without_its_layer_scale(pretraining):
    shape = dict(family='espike-large', widths=(8, 8, 16, 24), depths=(1, 1, 2, 2), num_heads=4)
    assert convert(pretraining, arch=shape | dict(pointwise_branch=True)).arch.num_heads == 4
    with pytest.raises(CheckpointError, match='pointwise_branch'):
        convert(pretraining, arch=shape)


@pytest.mark.parametrize('name', ['head.weight', 'head_kd.weight', 'decoders.0', 'block3.0.layer_scale3'])
def test_what_no_encoder_has_is_left_over(pretraining, name):
    with pytest.raises(CheckpointError, match=f'has left over {re.escape(name)}$'):
        convert(pretraining | {name: torch.ones(1)})


@pytest.mark.parametrize('name', ['norm.running_var', 'block3.1.attn.v_conv.0.conv2.0.weight'])
def test_an_encoder_is_whole_or_refused(pretraining, name):
    del pretraining[name]
    with pytest.raises(CheckpointError, match=f'^lacks {re.escape(name)}$'):
        convert(pretraining)


@pytest.mark.parametrize('name', ['decoder_blocks.0.norm1.weight', 'mask_token', 'pos_embed', 'head_kd.weight'])
def test_tensors_of_other_networks_are_left_over(tensors, name):
    with pytest.raises(CheckpointError, match=f'has left over {re.escape(name)}$'):
        convert(tensors | {name: torch.ones(1)})


def test_an_encoder_is_no_classifier(tmp_path, pretraining):
    torch.save(dict(model=pretraining), tmp_path / 'mae.pth')
    with pytest.raises(CheckpointError, match=r'mae\.pth is an encoder of Spike-MAE, without a classifier') as caught:
        load_published(tmp_path / 'mae.pth')
    assert '\n' not in str(caught.value)
