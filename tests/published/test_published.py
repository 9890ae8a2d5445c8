"""Published checkpoints become ours: names, shapes, values, and what is refused."""

import argparse
import os
import pickle
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qsdt_mm import SpikeDrivenTransformer, load_published
from qsdt_mm.errors import CheckpointError, InputError
from qsdt_mm.fileio.safe_load import has_safe_globals
from qsdt_mm.models.backbones.presets import ARCH_ZOO, FAMILIES, Arch, resolve_arch
from qsdt_mm.models.layers import SpikeUnit, make_neuron
from qsdt_mm.models.quantization import QuantLinear, quant_range
from qsdt_mm.published import load_backbone
from qsdt_mm.published.conversion import convert
from qsdt_mm.published.files import convert_file, load_file, read_converted
from qsdt_mm.published.recognition import arch_config, argument_bits, complete_arch, find_weights, infer_network

CLASSES = 5
ARCHS = {
    'qsd': Arch('qsd', (8, 8, 16, 16, 24), (1, 1, 2, 2, 1)),
    'espike': Arch('espike', (8, 8, 16, 16, 24), (1, 1, 2, 2, 1), stem_kernel=5),
    'espike-large': Arch('espike-large', (8, 8, 16, 24), (1, 1, 2, 2), pointwise_branch=True),
}
UNITS = dict(query='q_conv', key='k_conv', value='v_conv', projection='proj_conv')


class Net(nn.Module):
    """Backbone and classifier, without mmpretrain."""

    def __init__(self, family, weight_bits):
        super().__init__()
        self.backbone = SpikeDrivenTransformer(ARCHS[family], in_channels=2, weight_bits=weight_bits)
        heads = ['fc', 'fc_dist'] if family == 'espike-large' else ['fc']
        self.head = nn.ModuleDict()
        for name in heads:  # of two, the first sees real values
            neuron = make_neuron(FAMILIES[family].head_neuron, 4, 1) if name == heads[-1] else None
            self.head[name] = SpikeUnit(neuron, QuantLinear(24, CLASSES, weight_bits=weight_bits))

    def forward(self, images):
        feature = self.backbone(images)[-1].mean((2, 3))
        return sum(head(feature) for head in self.head.values()) / len(self.head)


def make_net(family, weight_bits=None, seed=0):
    """A network none of whose tensors is at its first value."""
    torch.manual_seed(seed)
    net = Net(family, FAMILIES[family].weight_bits if weight_bits is None else weight_bits)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith('num_batches_tracked'):
                tensor.fill_(7)
            elif name.endswith('running_var') or '.gain.' in name:
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(('running_mean', 'bias')):
                tensor.uniform_(-0.5, 0.5)
            elif name.endswith('quantizer.step'):
                tensor.mul_(torch.rand_like(tensor) + 0.5)
    return net.eval()


def published_name(name, family):
    """The published name of one of our tensors, written down apart from the code under test."""
    name = name.replace('.quantizer.step', '.alpha')
    if name.startswith('head.fc.synapse.'):
        return name.replace('head.fc.synapse.', 'head.')
    if name.startswith('head.fc_dist.synapse.'):
        return name.replace('head.fc_dist.synapse.', 'head_kd.')
    stage, rest = re.fullmatch(r'backbone\.stages\.(\d)\.(.*)', name).groups()
    down = ['downsample1_1', 'downsample1_2', 'downsample2', 'downsample3', 'downsample4'][int(stage)]
    if rest.startswith('downsample.'):
        return rest.replace('downsample.synapse', f'{down}.encode_conv').replace('downsample.norm', f'{down}.encode_bn')
    block, shortcut, rest = re.fullmatch(r'blocks\.(\d)\.(\d)\.(.*)', rest).groups()
    if stage in '34':
        prefix, branch = f'block{stage}.{block}', int(shortcut)
        if rest == 'gain.weight':
            return f'{prefix}.layer_scale{branch + (0 if family == "espike-large" else 1)}'
        if family != 'qsd':
            branch -= 1
        if family == 'espike-large' and branch == -1:
            index, rest = re.fullmatch(r'branch\.synapse\.(\d)\.(.*)', rest).groups()
            return f'{prefix}.rep_conv.conv{int(index) // 2 + 1}.{int(index) % 2}.{rest}'
        if branch == 1:
            for i in (0, 1):
                rest = rest.replace(f'branch.{i}.synapse', f'mlp.fc{i + 1}_conv')
                rest = rest.replace(f'branch.{i}.norm', f'mlp.fc{i + 1}_bn')
            return f'{prefix}.{rest}'
        if branch == 0:
            unit, rest = re.fullmatch(r'branch\.(\w+)\.(.*)', rest).groups()
            prefix = f'{prefix}.attn.{UNITS[unit]}'
            if rest.startswith('norm.'):
                return f'{prefix}.{rest.replace("norm", "1")}'
            if family == 'espike':
                return f'{prefix}.{rest.replace("synapse", "0")}'
            index, rest = re.fullmatch(r'synapse\.(\d)\.(.*)', rest).groups()
            if family == 'espike-large':
                return f'{prefix}.0.conv{int(index) // 2 + 1}.{int(index) % 2}.{rest}'
            if index == '1':
                return f'{prefix}.0.body.1.{rest.replace("norm", "bn")}'
            return f'{prefix}.0.body.{ {"0": "0", "2": "2.0", "3": "2.1", "4": "2.2"}[index] }.{rest}'
        conv = f'{prefix}.conv'
    else:
        # Stage 2 is two groups of one block.
        prefix = [f'ConvBlock1_1.{block}', f'ConvBlock1_2.{block}', f'ConvBlock2_{int(block) + 1}.0'][int(stage)]
        if family == 'espike-large':
            index, rest = re.fullmatch(r'branch\.(\d)\.(.*)', rest).groups()
            return f'{prefix}.conv{int(index) + 1}.0.{rest.replace("synapse", "0").replace("norm", "1")}'
        if shortcut == '1':
            index, rest = re.fullmatch(r'branch\.(\d)\.(.*)', rest).groups()
            index = int(index) + 1
            return f'{prefix}.{rest.replace("synapse", f"conv{index}").replace("norm", f"bn{index}")}'
        conv = f'{prefix}.Conv'
    index, rest = re.fullmatch(r'branch\.(\d)\.(.*)', rest).groups()
    if family == 'espike':
        part = ['pwconv1', 'dwconv', 'pwconv2'][int(index)]
        return f'{conv}.{part}.{rest.replace("synapse", "0").replace("norm", "1")}'
    rest = rest.replace('norm', 'bn1' if index == '0' else 'bn2')
    return f'{conv}.' + (
        rest.replace('synapse', 'pwconv1')
        if index == '0'
        else rest.replace('synapse.0', 'dwconv').replace('synapse.1', 'pwconv2')
    )


def publish(net, family):
    """Tensors of a network as the published implementations name and shape them, dead ones included."""
    tensors = {}
    for name, tensor in net.state_dict().items():
        theirs = published_name(name, family)
        if theirs.endswith(('fc1_conv.weight', 'fc2_conv.weight')) or (
            family == 'espike-large' and tensor.dim() == 4 and theirs.startswith('block')
        ):
            tensor = tensor.squeeze(-1)
        tensors[theirs] = tensor.clone()
        if theirs.endswith('.alpha'):
            layer = theirs.removesuffix('.alpha')
            tensors[f'{layer}.init_state'] = torch.ones(1)
            for dead in ('alpha', 'zero_point', 'init_state', 'signed'):
                tensors[f'{layer}.act.{dead}'] = torch.full((3,), -1.0)
    return tensors


@pytest.fixture(scope='module')
def nets():
    return {family: make_net(family) for family in ARCHS}


@pytest.fixture
def tensors(nets):
    """Published tensors of the QSD network, to be changed at will."""
    return publish(nets['qsd'], 'qsd')


def assert_same(state, net):
    wanted = net.state_dict()
    assert list(state) == list(wanted)
    for name, tensor in wanted.items():
        assert state[name].shape == tensor.shape and torch.equal(state[name], tensor), name


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


def telling_tensors(arch, in_channels=3, num_classes=1000):
    """The tensors that show a shape, on the meta device."""
    before = (in_channels, *arch.widths)
    names = ('downsample1_1', 'downsample1_2', 'downsample2', 'downsample3', 'downsample4')
    tensors = {
        f'{name}.encode_conv.weight': (after, first, *[arch.stem_kernel if i == 0 else 3] * 2)
        for i, (name, first, after) in enumerate(zip(names, before[:-1], arch.widths))
    }
    conv = {'qsd': 'Conv.pwconv1.weight', 'espike': 'Conv.pwconv1.0.weight', 'espike-large': 'conv1.0.0.weight'}[
        arch.family
    ]
    groups = dict(
        ConvBlock1_1=arch.depths[0], ConvBlock1_2=arch.depths[1], ConvBlock2_1=arch.depths[2] - 1, ConvBlock2_2=1
    )
    tensors |= {f'{group}.{i}.{conv}': (1, 1, 1, 1) for group, count in groups.items() for i in range(count)}
    tensors |= {
        f'block{stage}.{i}.mlp.fc1_conv.weight': (1, 1, 1)
        for stage in range(3, len(arch.widths))
        for i in range(arch.depths[stage])
    }
    if arch.pointwise_branch:
        tensors['block3.0.rep_conv.conv1.0.weight'] = (1, 1, 1)
    if arch.family == 'espike' and arch.separable_conv:
        tensors['block3.0.conv.pwconv1.0.weight'] = (1, 1, 1, 1)
    if arch.layer_scale is not None:
        tensors['block3.0.layer_scale1'] = (1,)
    elif arch.family == 'qsd':  # or it would be a Spike-driven Transformer V2
        tensors['head.alpha'] = (num_classes,)
    tensors['head.weight'] = (num_classes, arch.widths[-1])
    return {name: torch.empty(shape, device='meta') for name, shape in tensors.items()}


@pytest.mark.parametrize('preset', ARCH_ZOO)
def test_presets_are_recognised_by_name(preset):
    found = infer_network(telling_tensors(ARCH_ZOO[preset]))
    assert arch_config(found.arch) == preset
    assert (found.in_channels, found.num_classes) == (3, 1000)


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    widths=st.tuples(*[st.integers(1, 700)] * 5),
    depths=st.tuples(*[st.integers(low, 12) for low in (1, 1, 2, 1, 1)]),
    stem=st.sampled_from([1, 3, 5, 7]),
    in_channels=st.integers(1, 4),
    classes=st.integers(1, 99),
    scaled=st.booleans(),
    branch=st.booleans(),
    separable=st.booleans(),
)
def test_any_shape_is_recognised_and_survives_as_config(
    family, widths, depths, stem, in_channels, classes, scaled, branch, separable
):
    stages = len(FAMILIES[family].depths)
    arch = Arch(
        family,
        widths[:stages],
        depths[:stages],
        stem_kernel=stem,
        layer_scale=1e-6 if scaled else None,
        pointwise_branch=family == 'espike-large' and branch,
        separable_conv=family != 'espike' or separable,
    )
    found = infer_network(telling_tensors(arch, in_channels, classes))
    assert (found.arch, found.in_channels, found.num_classes) == (arch, in_channels, classes)
    events = family == 'espike' and (scaled or not separable)
    assert found.kind == ('event-classifier' if events else 'classifier')
    assert resolve_arch(arch_config(found.arch)) == arch


@pytest.mark.parametrize(
    'name, tensor, words',
    [
        ('downsample2.encode_conv.weight', None, 'has no downsample2.encode_conv.weight'),
        ('downsample2.encode_conv.weight', torch.ones(3), '4 dimensions'),
        ('downsample1_1.encode_conv.weight', torch.ones(8, 2, 4, 4), 'stem_kernel=4'),
        ('head.weight', 'text', 'has no head.weight'),
    ],
)
def test_a_shape_that_cannot_be_read_is_refused(tensors, name, tensor, words):
    del tensors[name]
    with pytest.raises(CheckpointError, match=words):
        convert(tensors | ({} if tensor is None else {name: tensor}))


def test_a_missing_group_of_blocks_is_refused(tensors):
    with pytest.raises(CheckpointError, match='has no blocks under block4'):
        convert({name: tensor for name, tensor in tensors.items() if not name.startswith('block4.')})


@pytest.mark.parametrize('name', ['head_kd.weight', 'head_kd.bias', 'block3.1.rep_conv.conv2.1.running_mean'])
def test_a_large_network_is_whole_or_refused(nets, name):
    published = publish(nets['espike-large'], 'espike-large')
    del published[name]
    with pytest.raises(CheckpointError, match=f'^lacks {re.escape(name)}$'):
        convert(published)


def test_the_large_sizes_are_told_apart_by_their_branch(nets):
    published = publish(nets['espike-large'], 'espike-large')
    without = {name: tensor for name, tensor in published.items() if '.rep_conv.' not in name}
    assert convert(without).arch == replace(ARCHS['espike-large'], pointwise_branch=False)
    with pytest.raises(CheckpointError, match="arch='e-83m': it has widths .*; pointwise_branch False instead of True"):
        convert(without, arch='e-83m')


def test_both_heads_are_quantized_on_request(nets):
    result = convert(publish(nets['espike-large'], 'espike-large'), weight_bits=4)
    steps = {name for name in result.derived if name.startswith('head.')}
    assert steps == {f'head.{head}.synapse.quantizer.step' for head in ('fc', 'fc_dist')}


# Spike-MAE


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


# What does not fit


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


def first_step(weight, bits):
    return 2 * weight.abs().mean() / quant_range(bits)[1] ** 0.5


@pytest.mark.parametrize('bits', [2, 4])
def test_a_step_that_was_never_set_follows_the_weights(nets, tensors, bits):
    tensors['block3.1.mlp.fc2_conv.init_state'] = torch.zeros(1)
    tensors['block3.1.mlp.fc2_conv.alpha'][:] = float('nan')
    result = convert(tensors, weight_bits=bits)
    name = 'backbone.stages.3.blocks.1.1.branch.1.synapse'
    assert result.derived == [f'{name}.quantizer.step']
    assert result.dropped['LSQ steps without a value'] == 1
    wanted = nets['qsd'].state_dict()
    step = result.state_dict.pop(f'{name}.quantizer.step')
    torch.testing.assert_close(step, first_step(wanted.pop(f'{name}.weight'), bits).expand(16))
    assert all(torch.equal(result.state_dict[key], value) for key, value in wanted.items() if name not in key)


def test_full_precision_qsd_is_recognised():
    net = make_net('qsd', 32)
    result = convert(publish(net, 'qsd'))
    assert (result.weight_bits, result.arch.family, result.derived) == (32, 'qsd', [])
    assert_same(result.state_dict, net)


def test_full_precision_weights_can_start_low_bit_training():
    net = make_net('qsd', 32)
    result = convert(publish(net, 'qsd'), weight_bits=3)
    weights = [name for name in result.state_dict if name.endswith('quantizer.step')]
    assert result.derived == weights and len(weights) > 40
    for name in weights:
        weight = result.state_dict[name.replace('quantizer.step', 'weight')]
        torch.testing.assert_close(result.state_dict[name], first_step(weight, 3).expand(len(weight)))


def test_steps_are_dropped_for_full_precision(tensors):
    result = convert(tensors, weight_bits=32)
    assert result.dropped['LSQ steps (weight_bits=32)'] > 40
    assert not any('quantizer' in name for name in result.state_dict)


def test_bits_come_from_the_arguments_in_the_file(tensors):
    def checkpoint(args):
        return dict(model=tensors, args=args)

    assert convert(checkpoint(argparse.Namespace(weight_bits=8))).weight_bits == 8
    assert convert(checkpoint(dict(nbits_w=2))).weight_bits == 2
    assert argument_bits(checkpoint(argparse.Namespace(weight_bits=5))) is None
    assert argument_bits(checkpoint('text')) is None
    assumed = convert(checkpoint(argparse.Namespace()))
    assert assumed.weight_bits == 4 and any('assumed' in note for note in assumed.notes)
    asked = convert(checkpoint(argparse.Namespace(weight_bits=8)), weight_bits=4)
    assert asked.weight_bits == 4 and any('say 8' in note for note in asked.notes)
    with pytest.raises(ValueError, match='weight_bits=5 is not allowed'):
        convert(tensors, weight_bits=5)


def test_arch_is_checked_and_fills_in_what_tensors_do_not_show(tensors):
    with pytest.raises(CheckpointError, match=r"arch='qsd-15m': it has widths \(8, .*instead of \(32, 64"):
        convert(tensors, arch='qsd-15m')
    with pytest.raises(CheckpointError, match='depths'):
        convert(tensors, arch=dict(depths=(1, 1, 2, 6, 2)))
    with pytest.raises(CheckpointError, match='it has a layer scale'):
        convert(tensors, arch=dict(layer_scale=None))
    with pytest.raises(ValueError, match="arch='qsd-16m' is not allowed"):
        convert(tensors, arch='qsd-16m')
    assert convert(tensors, arch=dict(num_heads=4, strides=(1, 1, 2, 2, 1))).arch == replace(
        ARCHS['qsd'], num_heads=4, strides=(1, 1, 2, 2, 1)
    )
    assert convert(tensors, arch=dict(num_heads=4), num_heads=2).arch.num_heads == 2
    assert complete_arch(ARCH_ZOO['e-5m'], 'e-5m') == ARCH_ZOO['e-5m']
    with pytest.raises(InputError, match='num_heads=7 is not allowed'):
        convert(tensors, num_heads=7)


# Files


class Attack:
    """Creates a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


@pytest.fixture
def source(tmp_path, tensors):
    path = tmp_path / 'published.pth'
    torch.save(dict(model=tensors, optimizer={}, epoch=3, scaler={}, args=argparse.Namespace(model='x', lr=0.1)), path)
    return path


@pytest.mark.parametrize(
    'form, words',
    [
        ('zip', r'evil\.pth wants to run (posix|nt)\.system'),
        ('legacy', r'evil\.pth wants to run (posix|nt)\.system'),
        ('pickle', r'evil\.pth '),
    ],
)
def test_a_file_that_wants_to_run_code_is_refused(tmp_path, tensors, form, words):
    proof, path = tmp_path / 'it_ran', tmp_path / 'evil.pth'
    checkpoint = dict(model=tensors, args=Attack(proof))
    if form == 'pickle':
        path.write_bytes(pickle.dumps(checkpoint))
    else:
        torch.save(checkpoint, path, _use_new_zipfile_serialization=form == 'zip')
    for use in (load_published, lambda p: convert_file(p, tmp_path / 'out.pth')):
        with pytest.raises(CheckpointError, match=words) as caught:
            use(path)
        assert '\n' not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['evil.pth']
    pickle.loads(path.read_bytes()) if form == 'pickle' else torch.load(path, weights_only=False)
    assert proof.exists()  # so the file was dangerous indeed


@pytest.mark.parametrize('keep', [0, 10, 0.5, -1])
def test_a_truncated_file_is_refused(tmp_path, source, keep):
    whole = source.read_bytes()
    source.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r'published\.pth is truncated or damaged'):
        convert_file(source, tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


def test_a_converted_file_loads_without_an_allow_list(tmp_path, source, nets):
    out = tmp_path / 'new' / 'out.pth'
    convert_file(source, out, num_heads=4)
    assert sorted(p.name for p in out.parent.iterdir()) == ['out.pth', 'out.pth.py']
    before = torch.serialization.get_safe_globals() if has_safe_globals() else []  # older versions have no list
    try:
        if before:
            torch.serialization.clear_safe_globals()
        checkpoint = torch.load(out, weights_only=True)
    finally:
        if before:
            torch.serialization.add_safe_globals(before)
    assert_same(checkpoint['state_dict'], nets['qsd'])
    meta = checkpoint['meta']
    assert meta['arch'] == dict(family='qsd', widths=[8, 8, 16, 16, 24], depths=[1, 1, 2, 2, 1], num_heads=4)
    assert (meta['family'], meta['num_classes'], meta['in_channels'], meta['weight_bits'], meta['source']) == (
        'qsd',
        CLASSES,
        2,
        4,
        'published.pth',
    )
    assert read_converted(checkpoint).arch == replace(ARCHS['qsd'], num_heads=4)
    with pytest.raises(CheckpointError, match='converted already'):
        convert_file(out, tmp_path / 'again.pth')


def test_destinations_are_protected(tmp_path, source):
    out = tmp_path / 'out.pth'
    out.write_text('precious')
    with pytest.raises(InputError, match='exists already'):
        convert_file(source, out)
    with pytest.raises(CheckpointError, match='widths'):
        convert_file(source, out, overwrite=True, arch='e-3m')
    assert out.read_text() == 'precious'
    convert_file(source, out, overwrite=True)
    assert read_converted(torch.load(out, weights_only=True)) is not None
    before = source.read_bytes()
    with pytest.raises(InputError, match='is the checkpoint itself'):
        convert_file(source, source, overwrite=True)
    with pytest.raises(InputError, match='is a directory'):
        convert_file(source, tmp_path, overwrite=True)
    assert source.read_bytes() == before and len(list(tmp_path.iterdir())) == 3


# Models


@pytest.fixture(scope='module')
def images():
    return torch.rand(2, 2, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('family', ARCHS)
def test_the_loaded_model_computes_the_same(tmp_path, nets, images, family):
    path, out = tmp_path / 'published.pth', tmp_path / 'out.pth'
    torch.save(dict(model=publish(nets[family], family)), path)
    convert_file(path, out)
    net = nets[family]
    with torch.no_grad():
        logits, features = net(images), net.backbone(images)[0]
        for file in (path, out):
            model = load_published(file)
            assert type(model).__name__ == 'ImageClassifier' and not model.training
            torch.testing.assert_close(model(images), logits, rtol=0, atol=0)
            torch.testing.assert_close(model.backbone(images)[0], features, rtol=0, atol=0)
    assert logits.std() > 1e-3


def test_overrides_reach_backbone_and_head(source, images):
    model = load_published(
        source,
        (1, 4),
        max_spike_count=8,
        weight_bits=8,
        drop_path_rate=0.2,
        with_cp=True,
        time_steps=2,
        arch=dict(num_heads=4),
    )
    backbone, neuron = model.backbone, model.head.fc.neuron
    assert (backbone.arch.num_heads, backbone.out_indices, backbone.with_cp) == (4, (1, 4), True)
    neurons = [m for m in model.modules() if hasattr(m, 'max_spike_count')]
    assert {(m.max_spike_count, m.time_steps) for m in neurons} == {(8, 2)} and neuron in neurons
    assert {m.weight_bits for m in model.modules() if hasattr(m, 'weight_bits')} == {8}
    with torch.no_grad():
        assert model(images).shape == (2, CLASSES)
        assert [f.shape[0] for f in backbone(images)] == [4, 4]  # time stays in the batch
        averaged = load_published(source, time_steps=2, time_mean=True)
        assert averaged(images).shape == (2, CLASSES) and averaged.backbone(images)[0].shape[0] == 2
    full = load_published(source, weight_bits=32)
    assert not any('quantizer' in name for name in full.state_dict())


def test_overrides_reach_both_heads(tmp_path, nets, images):
    torch.save(dict(model=publish(nets['espike-large'], 'espike-large')), tmp_path / 'published.pth')
    model = load_published(tmp_path / 'published.pth', (2, 3), max_spike_count=8, time_steps=2, drop_path_rate=0.1)
    assert type(model.head).__name__ == 'SpikeTwoHeadClsHead'
    assert (model.head.fc.neuron, model.head.fc_dist.neuron.max_spike_count, model.head.time_steps) == (None, 8, 2)
    with torch.no_grad():
        assert model(images).shape == (2, CLASSES)
        assert [f.shape[:2] for f in model.backbone(images)] == [(4, 16), (4, 24)]


def test_the_model_is_ready_for_a_runner(source, nets):
    model = load_published(source)
    model.init_weights()  # what a runner calls before training
    assert_same(model.state_dict(), nets['qsd'])
    inputs = [torch.randint(0, 256, (2, 40, 40), dtype=torch.uint8)]
    assert model.test_step(dict(inputs=inputs))[0].pred_score.shape == (CLASSES,)


def test_colour_images_are_normalised_as_in_imagenet(source):
    checkpoint = torch.load(source, weights_only=False)
    checkpoint['model']['downsample1_1.encode_conv.weight'] = torch.rand(8, 3, 7, 7)
    torch.save(checkpoint, source)
    preprocessor = load_published(source).data_preprocessor
    image = torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1).expand(3, 40, 40)  # BGR, as images are read
    assert preprocessor(dict(inputs=[image]))['inputs'].abs().max() < 1e-4


def test_the_default_dtype_is_left_alone(source, images):
    before = torch.get_default_dtype()
    model = load_published(source).double()
    assert torch.get_default_dtype() == before
    with torch.no_grad():
        assert model(images.double()).dtype == torch.float64


def test_mmengine_loads_the_converted_file_into_a_model_from_a_config(tmp_path, source, nets):
    from mmengine.runner import load_checkpoint
    from mmpretrain.registry import MODELS

    out = tmp_path / 'out.pth'
    convert_file(source, out)
    meta = torch.load(out, weights_only=True)['meta']
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(
                type='SpikeDrivenTransformer',
                arch=meta['arch'],
                in_channels=meta['in_channels'],
                weight_bits=meta['weight_bits'],
            ),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(
                type='SpikeLinearClsHead',
                num_classes=meta['num_classes'],
                in_channels=24,
                weight_bits=meta['weight_bits'],
                neuron=FAMILIES[meta['family']].head_neuron,
            ),
        )
    )
    load_checkpoint(model, str(out), map_location='cpu', strict=True)
    assert_same(model.state_dict(), nets['qsd'])


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(out_indices=(0, 1)), 'out_indices='),
        (dict(out_indices=()), 'out_indices='),
        (dict(out_indices=(7, 4)), 'out_indices='),
        (dict(in_channels=3), 'in_channels=3'),
        (dict(weight_bits=5), 'weight_bits=5'),
        (dict(arch='qsd-8m'), 'widths'),
        (dict(weights='best'), 'weights='),
        (dict(max_spike_count=0), 'max_spike_count=0'),
    ],
)
def test_arguments_out_of_range_are_refused(source, options, words):
    with pytest.raises(ValueError, match=words):
        load_published(source, **options)


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda c: c['state_dict'].pop('head.fc.synapse.bias'), 'lacks head.fc.synapse.bias'),
        (lambda c: c['state_dict'].update(x=torch.ones(1)), 'has left over x'),
        (lambda c: c.update(state_dict=3), 'no dict of tensors'),
        (lambda c: c['meta'].update(arch='qsd-99m'), 'qsd-99m'),
        (lambda c: c['meta'].update(in_channels='3'), 'in_channels'),
        (lambda c: c['meta'].update(num_classes=0), 'num_classes'),
        (lambda c: c['meta'].pop('weight_bits'), 'weight_bits=None'),
    ],
)
def test_a_converted_file_that_was_tampered_with_is_refused(tmp_path, source, change, words):
    out = tmp_path / 'out.pth'
    convert_file(source, out)
    checkpoint = torch.load(out, weights_only=True)
    change(checkpoint)
    with pytest.raises(ValueError, match=words):
        read_converted(checkpoint)


# Outputs of the published implementations


def relative_error(ours, theirs):
    assert ours.shape == theirs.shape
    return ((ours.double() - theirs).abs().max() / theirs.abs().max()).item()


LARGE = ['espike_large_base_public', 'espike_large_large_public']
precisions = pytest.mark.parametrize('dtype, bound', [(torch.float64, 1e-6), (torch.float32, 1e-3)])
forms = pytest.mark.parametrize('converted', [False, True], ids=['as published', 'converted'])


@pytest.fixture
def golden_file(golden, tmp_path):
    """A published checkpoint, as it is or converted, and what it computes."""

    def find(name, converted):
        path = golden(f'{name}.pth')
        if converted:
            convert_file(path, tmp_path / 'out.pth')
            path = tmp_path / 'out.pth'
        return path, torch.load(golden(f'{name}_io.pt'), weights_only=True)

    return find


@precisions
@forms
@pytest.mark.parametrize('name', ['qsd_public', 'espike_public', 'espike_ties_public', *LARGE])
def test_golden_outputs(golden_file, name, dtype, bound, converted):
    path, wanted = golden_file(name, converted)
    stages = (0, 1, 2, 4) if name in LARGE else (0, 1, 2, 3, 4)
    model = load_published(path, out_indices=stages).to(dtype)
    with torch.no_grad():
        features = model.backbone(wanted['input'].to(dtype))
        errors = {'logits': relative_error(model(wanted['input'].to(dtype)), wanted['output'])}
    assert len(features) == len(wanted['feats']) == len(stages)
    for ours, (stage, theirs) in zip(features, wanted['feats'].items(), strict=True):
        if not name.startswith(('espike_public', 'espike_ties')):  # time first
            theirs = theirs[0]
        errors[stage] = relative_error(ours.flatten(2) if theirs.dim() == 3 else ours, theirs)
    print({stage: f'{error:.1e}' for stage, error in errors.items()})
    assert max(errors.values()) < bound, errors


def masked_encoder(backbone, norm, image, active):
    """The encoder of Spike-MAE in evaluation mode: what is masked is zero after every convolution before the tokens."""

    def mask(_, __, output):
        return output * nn.functional.interpolate(active, size=output.shape[-2:])

    *conv_stages, last = backbone.stages
    masked = [stage.downsample for stage in backbone.stages]
    masked += [m for stage in conv_stages for m in stage.blocks.modules() if isinstance(m, SpikeUnit)]
    hooks = [unit.register_forward_hook(mask) for unit in masked]
    tokens = backbone(mask(None, None, image))[0]
    for hook in hooks:
        hook.remove()
    return norm(tokens).flatten(2).mT


@precisions
@forms
def test_golden_encoder_of_spike_mae(golden_file, dtype, bound, converted):
    path, wanted = golden_file('spikemae_encoder_public', converted)
    backbone, tensors = load_backbone(path).to(dtype), load_file(path)['state_dict' if converted else 'model']
    norm = nn.BatchNorm2d(64).to(dtype).eval()
    norm.load_state_dict({n.removeprefix('norm.'): t for n, t in tensors.items() if n.startswith('norm.')})
    with torch.no_grad():
        latent = masked_encoder(backbone, norm, wanted['input'].to(dtype), wanted['active'].to(dtype))
    assert relative_error(latent, wanted['latent']) < bound
