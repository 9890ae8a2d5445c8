"""A network is recognised by the names and shapes of its tensors."""

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published_tensors import ARCHS, publish

from qsdt_mm.errors import CheckpointError
from qsdt_mm.models.backbones.presets import ARCH_ZOO, FAMILIES, Arch, resolve_arch
from qsdt_mm.published.conversion import convert
from qsdt_mm.published.recognition import arch_config, infer_network


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
