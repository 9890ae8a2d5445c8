"""Classifiers of this package under the published names: what comes in goes out again, bit for bit."""

import pytest
import torch

from qsdt_mm.errors import CheckpointError
from qsdt_mm.models.backbones.presets import ARCH_ZOO, Arch
from qsdt_mm.published import convert, convert_file, publish, publish_file
from qsdt_mm.published.files import load_file
from qsdt_mm.published.networks import Network, skeleton

CLASSIFIERS = [
    'qsd_public',
    'espike_public',
    'espike_ties_public',
    'espike_large_base_public',
    'espike_large_large_public',
    'hardvs_public',
    'dvs_if_public',
]
SHAPES = {
    'qsd': Arch('qsd', (4, 8, 8, 16, 24), (1, 1, 2, 2, 1)),
    'espike': Arch('espike', (4, 8, 8, 16, 24), (1, 1, 2, 2, 1)),
    'har-dvs': Arch('espike', (4, 8, 8, 16, 24), (1, 1, 2, 1, 1), layer_scale=1e-6),
    'event network with state': Arch(
        'espike', (4, 8, 8, 16, 24), (1, 1, 2, 3, 1), layer_scale=1e-6, separable_conv=False
    ),
    'large': Arch('espike-large', (4, 8, 16, 24), (1, 1, 2, 2)),
    'large with branch': Arch('espike-large', (4, 8, 16, 24), (1, 1, 2, 3), pointwise_branch=True),
}


def weights_of(arch, in_channels=3, num_classes=5, weight_bits=None):
    """Random values for a network, none at its first value, and torch's notes."""
    bits = weight_bits or (4 if arch.family == 'qsd' else 32)
    state = skeleton(Network('classifier', arch, in_channels, num_classes, bits))
    for name, tensor in state.items():
        counter = name.endswith('num_batches_tracked')
        state[name] = torch.tensor(7) if counter else torch.rand(tensor.shape) + 0.1
    return state


def assert_same(one, other):
    assert list(one) == list(other)
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and tensor.shape == other[name].shape, name
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize(
    'name, weights', [*((name, 'model') for name in CLASSIFIERS), ('hardvs_public', 'ema'), ('dvs_if_public', 'ema')]
)
def test_what_comes_in_goes_out_again(golden, tmp_path, name, weights):
    path, key = golden(f'{name}.pth'), dict(model='model', ema='model_ema')[weights]
    checkpoint = load_file(path)
    convert_file(path, tmp_path / 'in.pth', weights=weights)
    result = publish_file(tmp_path / 'in.pth', tmp_path / 'out.pth')
    out = torch.load(tmp_path / 'out.pth', weights_only=True)['model']
    assert_same({name.removeprefix('module.'): tensor for name, tensor in checkpoint[key].items()}, out)
    steps = sum(name.endswith('.alpha') and '.act.' not in name for name in out)
    assert result.added == (dict(init_state=steps) | {'act.*': 4 * steps} if steps else {})
    assert result.notes == []


@pytest.mark.parametrize('shape', SHAPES)
def test_what_goes_out_comes_in_again(shape):
    state = weights_of(SHAPES[shape])
    result = publish(state)
    again = convert(dict(model=result.state_dict))
    assert again.arch == SHAPES[shape] and (again.in_channels, again.num_classes) == (3, 5)
    assert_same(again.state_dict, state)
    assert all(
        bool(t.all()) for name, t in result.state_dict.items() if name.endswith('init_state') and '.act.' not in name
    )


@pytest.mark.parametrize('preset', ARCH_ZOO)
def test_presets_have_the_published_shapes(preset):
    arch = ARCH_ZOO[preset]
    state = skeleton(Network('classifier', arch, 3, 1000, 4 if arch.family == 'qsd' else 32))
    published = publish(state).state_dict
    assert not any(tensor.dim() == 4 and '.mlp.' in name for name, tensor in published.items())
    assert sum(tensor.dim() == 3 for tensor in published.values()) >= 2 * sum(arch.depths[3:])


def test_a_step_goes_out_as_it_acts():
    state = weights_of(SHAPES['qsd'])
    state['head.fc.synapse.quantizer.step'][:2] = torch.tensor([-0.5, 1e-9])
    assert publish(state).state_dict['head.alpha'][:2].tolist() == pytest.approx([0.5, 1e-6])


def test_the_way_out_of_a_training_run(tmp_path):
    """A checkpoint as a runner writes it, with the wrapper's prefix."""
    state = weights_of(SHAPES['espike'])
    path = tmp_path / 'epoch_3.pth'
    torch.save(dict(meta=dict(epoch=3), state_dict={f'module.{k}': v for k, v in state.items()}, optimizer={}), path)
    result = publish_file(path, tmp_path / 'out.pth')
    assert_same(convert(load_file(tmp_path / 'out.pth')).state_dict, state)
    assert len(result.notes) == 1 and 'no rounding rule on record' in result.notes[0]


@pytest.mark.parametrize(
    'arch, options, words',
    [
        (Arch('qsd', (8, 8, 8, 16, 24), (1, 1, 2, 2, 1)), {}, 'first published stage is half as wide'),
        (Arch('qsd', (4, 8, 8, 16, 24), (1, 1, 1, 2, 1)), {}, r'has \(1, 1, 1, 2, 1\) blocks'),
        (Arch('qsd', (4, 8, 8, 16, 24), (1, 1, 2, 2, 1), stem_kernel=3), {}, '3 px: the published one has 7'),
        (Arch('qsd', (4, 8, 8, 16, 24), (1, 1, 2, 2, 1), layer_scale=None), {}, 'no layer scales'),
        (SHAPES['qsd'], dict(weight_bits=32), 'no LSQ steps'),
        (SHAPES['espike'], dict(weight_bits=4), 'the published E-SpikeFormer has none'),
    ],
)
def test_what_the_published_code_does_not_have_is_refused(arch, options, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        publish(weights_of(arch, **options))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'meta, words',
    [
        (dict(arch=dict(family='qsd', num_heads=4)), 'num_heads=4: the published code has 8'),
        (dict(arch=dict(family='qsd', strides=[1, 2, 2, 2, 1])), r'strides=\[1, 2, 2, 2, 1\]'),
        (dict(weight_bits=8), 'weights of 8 bits'),
    ],
)
def test_what_the_file_says_of_itself_is_refused_too(meta, words):
    with pytest.raises(CheckpointError, match=words):
        publish(weights_of(SHAPES['qsd']), meta)
    assert publish(weights_of(SHAPES['qsd']), dict(arch='qsd-15m', weight_bits=4)).state_dict


def test_another_rule_on_halves_is_refused():
    state = weights_of(SHAPES['espike'])
    for notes in state._metadata.values():
        if 'rounding' in notes:
            notes['rounding'] = 'half_up'
    with pytest.raises(CheckpointError, match="round 'half_up'.*published ones round 'half_even'"):
        publish(state)


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda s: s.pop('head.fc.synapse.bias'), r'^lacks head\.fc\.synapse\.bias$'),
        (lambda s: s.pop('backbone.stages.3.blocks.1.1.branch.0.norm.bias'), r'^lacks backbone\.stages\.3\.blocks\.1'),
        (lambda s: s.update({'neck.weight': torch.ones(1)}), r'^has left over neck\.weight$'),
        (lambda s: s.pop('backbone.stages.4.downsample.synapse.weight'), 'which shows the shape'),
        (lambda s: [s.pop(name) for name in list(s) if '.query.' in name], 'is no classifier of this package'),
    ],
)
def test_what_is_missing_or_left_over_is_named(change, words):
    state = weights_of(SHAPES['qsd'])
    change(state)
    with pytest.raises(CheckpointError, match=words):
        publish(state)


def test_a_published_file_is_not_published_again(golden, tmp_path):
    with pytest.raises(CheckpointError, match='holds no weights|is no classifier of this package'):
        publish_file(golden('qsd_public.pth'), tmp_path / 'out.pth')
    assert list(tmp_path.iterdir()) == []
