"""Plans come back from folders to the last bit, also from those of earlier versions; what is no plan is refused."""

import copy
import hashlib
import json
from pathlib import Path

import pytest
import torch
from deployed import KINDS, kind, plan_of, shown

import qsdt_mm
from qsdt_mm.deploy.folder import build, describe
from qsdt_mm.errors import InputError
from qsdt_mm.fileio.folders import read_packed

WITNESS = Path(__file__).parent / 'witness'


FAST = ('espike', 'two_bits')


@pytest.mark.parametrize(
    'name', [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]
)
def test_plans_come_back_to_the_last_bit(name, tmp_path):
    network = kind(name)
    plan, images = plan_of(network), shown(network, 2, seed=2)
    qsdt_mm.save_pretrained(plan, tmp_path / name)
    restored = qsdt_mm.from_pretrained(tmp_path / name)
    for (key, buffer), (other_key, other) in zip(plan.named_buffers(), restored.named_buffers(), strict=True):
        assert key == other_key and buffer.dtype == other.dtype and torch.equal(buffer, other)
    for output, other in zip(plan(images), restored(images), strict=True):
        assert torch.equal(output, other)


def pixels():
    """Two pictures that no generator has to agree on."""
    i = torch.arange(128).view(2, 1, 8, 8)
    return (i * i // 5 + i * 37) % 256


def test_a_plan_of_the_first_version_has_its_bits():
    """Made once, when version 1 of the format was; it must load and give these bits for good."""
    expected = json.loads((WITNESS / 'expected.json').read_text())
    plan = qsdt_mm.from_pretrained(WITNESS / 'deploy')
    for outputs in (plan(pixels()), plan.with_spikes()(pixels())):
        assert outputs['logits'].view(torch.int32).tolist() == expected['logits']
        maps, (same,) = outputs['maps']
        assert hashlib.sha256(maps.contiguous().numpy().tobytes()).hexdigest() == expected['map']
        assert same is maps
    assert plan.classes == ['a', 'b', 'c'] and plan.preprocessing['mean'] == [80.5]


def test_a_network_of_the_first_version_has_its_weights():
    """Zeros have lost their signs, which integers have not."""
    network, found = qsdt_mm.from_pretrained(WITNESS / 'trainable'), hashlib.sha256()
    for _, module in sorted(network.named_modules()):
        if hasattr(module, 'quantized_weight'):
            found.update((module.quantized_weight.detach() + 0.0).contiguous().numpy().tobytes())
    assert found.hexdigest() == json.loads((WITNESS / 'expected.json').read_text())['weights']


@pytest.fixture(scope='module')
def described():
    packed = read_packed(WITNESS / 'deploy')
    return packed.config['plan'], packed.tensors


def test_what_is_built_is_described_again(described):
    content, tensors, _ = describe(build(*described))
    assert content == described[0]
    assert tensors.keys() == described[1].keys()


def setting(index, name, value):
    def change(content, tensors):
        content['steps'][index]['settings'][name] = value

    return change


def step(index, name, value):
    def change(content, tensors):
        content['steps'][index][name] = value

    return change


def tensor(name, value):
    def change(content, tensors):
        tensors[name] = value

    return change


def part(name, value):
    def change(content, tensors):
        content[name] = value

    return change


@pytest.mark.parametrize(
    'change, word',
    [
        (part('shape', [1, 8, 2**40]), 'plan.shape'),
        (part('shape', [1, 8, -8]), 'plan.shape'),
        (part('shape', [3, 8, 8]), 'plan.steps[1]'),  # one gain goes with three channels, weights for one do not
        (part('shape', None), 'plan.shape'),
        (part('steps', []), 'plan.steps'),
        (part('steps', [{}] * 30_000), 'plan.steps'),
        (part('steps', [[]]), 'one of a step'),
        (part('outputs', 'nowhere'), 'outputs'),
        (part('outputs', {'dict': 3}), 'outputs'),
        (part('outputs', None), 'outputs'),
        (step(1, 'step', 'Module'), 'plan.steps[1].step'),
        (step(1, 'step', ['Convolve']), 'plan.steps[1].step'),
        (step(1, 'inputs', ['logits']), 'plan.steps[1].inputs'),
        (step(1, 'inputs', []), 'plan.steps[1].inputs'),
        (step(1, 'output', 'pixels'), 'plan.steps[1].output'),
        (step(1, 'settings', []), 'plan.steps[1].settings'),
        (step(2, 'settings', {'extra': 1}), 'plan.steps[2]'),
        (setting(3, 'leak', 0.5), 'plan.steps[3], Fire: settings'),
        (setting(3, 'decay', 'half'), 'plan.steps[3], Fire.decay'),
        (setting(3, 'decay', 1.5), 'plan.steps[3], Fire.decay'),
        (setting(3, 'resets', []), 'plan.steps[3], Fire.resets'),
        (setting(3, 'digits', 10**6), 'plan.steps[3], Fire.digits'),
        (setting(1, 'to', 'file'), 'to='),
        (setting(1, 'most', 2**20), 'most='),
        (setting(4, 'most', 10**9), 'most='),
        (setting(1, 'weight', 3), 'plan.steps[1]'),
        (setting(1, 'conv_args', dict(stride=[2, 2], groups=3)), 'plan.steps[1]'),
        (setting(1, 'conv_args', dict(stride=[2, 2], padding=[1, 1], dilation=[1], groups=1)), 'dilation=[1]'),
        (setting(1, 'conv_args', dict(stride=[2, 2], padding=[1, 1], dilation=[1, 1], groups=True)), 'groups=True'),
        (setting(1, 'conv_args', {'__class__': 1}), 'plan.steps[1].settings'),
        (setting(1, 'conv_args', [[[[[[1]]]]]]), 'plan.steps[1].settings'),
        (setting(1, 'high', float('inf')), 'plan.steps[1].settings'),
        (setting(1, 'high', float('nan')), 'plan.steps[1].settings'),
        (setting(1, 'high', 10**400), 'plan.steps[1].settings'),
        (setting(3, 'max_spike_count', 10**6), 'max_spike_count'),
        (setting(10, 'max_spike_count', [0, 4, 4]), 'max_spike_count'),
        (setting(3, 'ratio', 'x'), 'plan.steps[3]'),
        (setting(10, 'num_heads', 3), 'plan.steps[10]'),
        (setting(14, 'size', [2**20, 2**20]), 'plan.steps[14]'),
        (setting(18, 'function', '__import__'), 'plan.steps[18]'),
        (tensor('steps.1.weight', torch.zeros(4, 1, 3, 3)), 'weight'),
        (tensor('steps.1.weight', torch.zeros(4, 2, 3, 3, dtype=torch.int8)), 'plan.steps[1]'),
        (tensor('steps.1.bias', torch.zeros(3, dtype=torch.int32)), 'plan.steps[1], Convolve.bias'),
        (tensor('steps.1.scale', torch.tensor([1.0, 2.0, 3.0, float('nan')])), 'steps.1.scale'),
        (tensor('steps.2.delta', torch.ones(3)), 'plan.steps[2]'),
        (tensor('steps.99.delta', torch.ones(3)), 'steps.99.delta'),
        (tensor('__class__', torch.ones(3)), '__class__'),
        (tensor('steps.1.forward', torch.ones(3)), 'plan.steps[1]'),
    ],
)
def test_what_is_no_plan_is_refused(described, change, word):
    content, tensors = copy.deepcopy(described[0]), dict(described[1])
    change(content, tensors)
    with pytest.raises(InputError) as caught:
        build(content, tensors)
    assert word in str(caught.value) and '\n' not in str(caught.value), caught.value


@pytest.mark.parametrize('content', [None, [], 'plan', {}])
def test_other_content_is_refused(content):
    with pytest.raises(InputError):
        build(content, {})


def test_deep_outputs_are_refused(described):
    content = copy.deepcopy(described[0])
    content['outputs'] = ['logits']
    for _ in range(5000):
        content['outputs'] = [content['outputs']]
    with pytest.raises(InputError, match='outputs'):
        build(content, described[1])
