"""The networks by name: sizes to the last parameter, and what each preset computes when it is new."""

import dataclasses
import re
from collections import namedtuple

import pytest
import torch
from tiny_backbones import biases_before_another_norm
from torch import nn

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.models import SpikeUnit
from qsdt_mm.models.backbones.presets import ARCH_ZOO, FAMILIES, Arch, resolve_arch
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.models.quantization import LSQ, QuantWeightMixin

# From the papers' tables: widths, parameters with a classifier of 1000 classes (of the large sizes two), LSQ steps.
Row = namedtuple('Row', 'widths parameters steps')
TABLE = {
    'qsd-8m': Row((48, 96, 192, 256), 8_369_048, 32_544),
    'qsd-15m': Row((64, 128, 256, 360), 15_160_432, 43_712),
    'qsd-31m': Row((96, 192, 384, 480), 31_403_360, 62_968),
    'qsd-55m': Row((128, 256, 512, 640), 55_442_576, 83_624),
    'e-3m': Row((24, 48, 96, 128), 2_702_048, 0),
    'e-5m': Row((32, 64, 128, 192), 5_105_608, 0),
    'e-10m': Row((48, 96, 192, 240), 10_023_112, 0),
    'e-19m': Row((64, 128, 256, 360), 18_987_504, 0),
    'e-83m': Row((128, 256, 512), 83_015_952, 0),
    'e-173m': Row((192, 384, 768), 171_579_824, 0),
}
# The large sizes are computed with in small, with heads as wide as theirs and enough tokens: their product is smaller.
SHRUNK = {
    'e-83m': dict(preset='e-83m', widths=(8, 16, 32, 64), depths=(1, 1, 2, 3), num_heads=1),
    'e-173m': dict(preset='e-173m', widths=(12, 24, 48, 96), depths=(1, 1, 2, 2), num_heads=1),
}


@pytest.fixture(scope='module', params=TABLE)
def preset(request):
    """A new network, one at a time: its name, and the backbone with all outputs in evaluation mode."""
    torch.manual_seed(0)
    name = request.param
    yield name, SpikeDrivenTransformer(SHRUNK.get(name, name), out_indices=range(5)).eval()


def usual_images(name):
    return torch.randn(2, 3, *[128 if name in SHRUNK else 64] * 2)


def test_the_zoo_is_the_table():
    assert sorted(SpikeDrivenTransformer.arch_zoo) == sorted(TABLE)
    assert SpikeDrivenTransformer.arch_zoo is ARCH_ZOO


@pytest.mark.parametrize('name', TABLE)
def test_parameters_are_those_of_the_table(name):
    row = TABLE[name]
    with torch.device('meta'):
        model = SpikeDrivenTransformer(name)
    assert ARCH_ZOO[name].widths == (row.widths[0] // 2, *row.widths)
    steps = sum(m.step.numel() for m in model.modules() if isinstance(m, LSQ))
    classifier = (row.widths[-1] * 1000 + 1000) * (2 if name in SHRUNK else 1)
    if row.steps:
        steps, classifier = steps + 1000, classifier + 1000  # the classifier is quantized too: a step for each class
    assert steps == row.steps
    assert sum(p.numel() for p in model.parameters()) + classifier == row.parameters


def test_widths_and_constants(preset):
    name, model = preset
    large = name in SHRUNK
    assert model.out_channels == (*model.arch.widths, *model.arch.widths[-1:] * large)
    quantized = name.startswith('qsd')
    neurons = [m for m in model.modules() if isinstance(m, SpikingNeuron)]
    after_attention = [m.projection.neuron for m in model.modules() if hasattr(m, 'projection')]
    blocks = sum(model.arch.depths[3:])
    assert len(after_attention) == blocks
    assert blocks == (len(model.stages[3].blocks) if large else 8)
    for neuron in neurons:
        expected = (0.25, 0.5 if any(neuron is a for a in after_attention) else 0.25) if quantized else (1.0, 0.25)
        assert (neuron.threshold, neuron.scale, neuron.max_spike_count, neuron.time_steps) == (*expected, 4, 1)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert {m.weight_bits for m in layers} == {4 if quantized else 32}
    gains = [p for n, p in model.named_parameters() if 'gain' in n]
    assert len(gains) == (2 * blocks if quantized or large else 0)  # of attention and MLP
    assert all((g == 1e-6).all() for g in gains)


def test_every_learned_layer_is_in_a_unit(preset):
    """Views of a network walk its units; what is in none would be missed."""
    _, model = preset
    units = [m for m in model.modules() if isinstance(m, SpikeUnit)]
    in_units = {id(layer) for unit in units for layer in unit.synapse.modules() if isinstance(layer, QuantWeightMixin)}
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert {id(layer) for layer in layers} == in_units
    assert [unit for unit in units if unit.neuron is None] == [model.stages[0].downsample]


@pytest.mark.parametrize('size', [(64, 64), (33, 47)], ids=str)
def test_shapes_and_finite_values(preset, size):
    _, model = preset
    with torch.no_grad():
        outputs = model(torch.randn(2, 3, *size))
    expected, shapes = size, []
    for stride in (2, 2, 2, 2, 1):
        expected = tuple(-(-side // stride) for side in expected)
        shapes.append(expected)
    assert [tuple(o.shape) for o in outputs] == [(2, c, *s) for c, s in zip(model.out_channels, shapes, strict=True)]
    assert all(o.isfinite().all() for o in outputs)


def test_a_new_network_fires(preset):
    """In evaluation mode, before any training: no neuron is silent or fires all it can."""
    name, model = preset
    images = usual_images(name)
    counts, hooks = {}, []
    for name, module in model.named_modules():  # a shared neuron is one module, seen once
        if isinstance(module, SpikingNeuron):
            hooks.append(
                module.register_forward_hook(lambda m, _, out, name=name: counts.__setitem__(name, out / m.scale))
            )
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    assert len(counts) == sum(isinstance(m, SpikingNeuron) for m in model.modules())
    for name, count in counts.items():
        assert count.max() > 0, f'{name} is silent'
        assert count.min() < 4, f'{name} always fires all it can'
        assert 0.02 < count.mean() < 3.98, name
        assert count.isfinite().all() and torch.equal(count, count.round().clamp(0, 4))


def biases_before_norm(model):
    """Biases whose shift batch statistics take away again: their gradient is zero in exact arithmetic."""
    biases = [
        getattr(unit.synapse, 'bias', None)
        for unit in model.modules()
        if isinstance(unit, SpikeUnit) and unit.norm is not None
    ]
    return {id(bias) for bias in biases if bias is not None}


def backward_from_the_last_output(model, image):
    (out,) = model(image)
    # Random weights: batch norm would cancel the gradient of a plain sum.
    (out * torch.randn_like(out)).sum().backward()


def test_gradients_reach_every_parameter(preset):
    """From the last output alone, as a classifier sends them: DDP needs no find_unused_parameters."""
    name, model = preset
    image = usual_images(name)
    model.out_indices = (4,)
    try:
        model.train()
        backward_from_the_last_output(model, image)
    finally:
        model.out_indices = tuple(range(5))
        model.eval()
    silent = biases_before_norm(model)
    depths = model.arch.depths
    convs = 2 * sum(depths[:3]) if name in SHRUNK else 0
    assert len(silent) == len(depths) + convs + 2 * sum(depths[3:])  # of the downsamplings, convolutions and MLPs
    taken_away = biases_before_another_norm(model)
    dead, nonzero, total = [], 0, 0
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        if id(parameter) in silent or parameter_name in taken_away:
            continue
        if not parameter.grad.any():
            dead.append(parameter_name)
        nonzero += parameter.grad.count_nonzero().item()
        total += parameter.numel()
    model.zero_grad(set_to_none=True)
    assert not dead
    # Not only somewhere in each tensor. Weights from channels that are silent on this image rightly have none.
    assert nonzero / total > 0.8


@pytest.mark.parametrize('size', [64, 128, 224])
@pytest.mark.parametrize('arch', ['qsd-8m', 'e-3m', 'e-83m'])
def test_a_new_attention_learns_on_few_and_many_tokens(arch, size):
    """QSD's product grows with the tokens: with norms at 1 its neurons all fire D spikes at 128 px."""
    model = SpikeDrivenTransformer(SHRUNK.get(arch, arch)).train()
    membranes = []
    for module in model.modules():
        if hasattr(module, 'projection'):
            module.projection.neuron.register_forward_hook(lambda n, args, _: membranes.append((args[0], n)))
    backward_from_the_last_output(model, torch.randn(2, 3, size, size))
    assert len(membranes) == sum(model.arch.depths[3:])
    for membrane, neuron in membranes:
        learns = (membrane > 0) & (membrane < neuron.max_spike_count * neuron.threshold)
        assert learns.float().mean() > 0.2
    for name, parameter in model.named_parameters():
        if re.search('branch.(query|key|value)', name) and name not in biases_before_another_norm(model):
            assert parameter.grad.any(), name


@pytest.mark.parametrize(('arch', 'count'), [('qsd-8m', 21), ('e-3m', 21), ('e-83m', 18)])
def test_biases_before_norm_learn_when_statistics_are_fixed(arch, count):
    """In training their gradient is nothing but rounding; with running statistics it is real."""
    model = SpikeDrivenTransformer(SHRUNK.get(arch, arch)).double()
    silent = biases_before_norm(model)
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    size = {}
    for training in (True, False):
        model.train(training).zero_grad(set_to_none=True)
        backward_from_the_last_output(model, image)
        size[training] = {n: p.grad.abs().max().item() for n, p in model.named_parameters() if id(p) in silent}
    assert len(size[True]) == count
    for name, real in size[False].items():
        assert real > 0
        assert size[True][name] < 1e-6 * real, name


def test_a_preset_with_changes():
    arch = resolve_arch(dict(preset='qsd-8m', strides=(1, 1, 2, 2, 1), stem_kernel=3))
    assert arch == dataclasses.replace(ARCH_ZOO['qsd-8m'], strides=(1, 1, 2, 2, 1), stem_kernel=3)
    assert ARCH_ZOO['qsd-8m'].strides == (2, 2, 2, 2, 1)  # the preset itself is as before
    assert resolve_arch(dict(preset='qsd-8m')) == ARCH_ZOO['qsd-8m']


def test_the_familys_depths_and_strides_are_the_default():
    arch = resolve_arch(dict(family='espike-large', widths=(4, 8, 8, 16)))
    assert (arch.depths, arch.strides, arch.layer_scale) == ((1, 1, 2, 12), (2, 2, 2, 2), 1e-6)
    assert (arch.num_stages, [arch.stage_of(i) for i in range(5)]) == (4, [0, 1, 2, 3, 3])
    assert [ARCH_ZOO['e-3m'].stage_of(i) for i in range(5)] == [0, 1, 2, 3, 4]


def test_the_branch_is_the_only_other_difference_between_the_large_sizes():
    both = [dataclasses.replace(ARCH_ZOO[name], widths=(4, 8, 8, 16)) for name in ('e-83m', 'e-173m')]
    assert [arch.pointwise_branch for arch in both] == [True, False]
    assert both[0] == dataclasses.replace(both[1], pointwise_branch=True)


def test_a_network_of_your_own():
    arch = resolve_arch(dict(family='espike', widths=[4, 8, 8, 16, 16], depths=[0, 1, 1, 1, 1], num_heads=2))
    assert arch.widths == (4, 8, 8, 16, 16) and arch.layer_scale is None
    assert resolve_arch(arch) is arch


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        (dict(preset='qsd-8m'), 1e-6),
        (dict(preset='e-83m'), 1e-6),
        (dict(preset='e-83m', layer_scale=None), None),
        (dict(preset='e-3m'), None),
        (dict(preset='qsd-8m', layer_scale=None), None),
        (dict(preset='e-3m', layer_scale=0.1), 0.1),
        (dict(preset='qsd-8m', family='espike'), None),
        (dict(preset='e-3m', family='qsd'), 1e-6),
        (dict(preset='e-3m', family='qsd', layer_scale=0.5), 0.5),
        (dict(preset='qsd-8m', family='qsd', layer_scale=0.5), 0.5),
        (dict(preset=dict(preset='qsd-8m', layer_scale=0.5), num_heads=4), 0.5),
    ],
    ids=str,
)
def test_layer_scale_is_the_familys_unless_said_otherwise(settings, expected):
    assert resolve_arch(settings).layer_scale == expected


W = (8, 8, 16, 16, 24)
BAD = {
    "'qsd-16m'": ('qsd-16m', 'qsd-15m'),
    "'QSD-8M'": ('QSD-8M', 'qsd-8m'),
    '15': (15, 'qsd-8m'),
    'None': (None, 'e-19m'),
    "'resnet'": (dict(preset='resnet'), 'qsd-8m'),
    "['width']": (dict(preset='qsd-8m', width=W), 'widths'),
    "'cnn'": (dict(family='cnn', widths=W), 'qsd, espike'),
    '(8, 8, 16, 16, 24)': (dict(family='espike-large', widths=W), '4 integers >= 1'),
    '(1, 1, 2, 6, 2)': (dict(preset='e-83m', depths=(1, 1, 2, 6, 2)), '4 integers >= 0'),
    'True': (dict(preset='qsd-8m', pointwise_branch=True), 'False in others (qsd)'),
    "'yes'": (dict(preset='e-83m', pointwise_branch='yes'), 'True or False in family espike-large'),
    '(8, 8, 16)': (dict(family='qsd', widths=(8, 8, 16)), '5 integers >= 1'),
    '(8, 8, 16, 16, 0)': (dict(family='qsd', widths=(8, 8, 16, 16, 0)), '5 integers >= 1'),
    '(8, 8, 16, 16, 24.0)': (dict(family='qsd', widths=(8, 8, 16, 16, 24.0)), '5 integers'),
    '(1, 1, 2, 6)': (dict(preset='qsd-8m', depths=(1, 1, 2, 6)), '5 integers >= 0'),
    '(1, 1, 2, 6, -1)': (dict(preset='qsd-8m', depths=(1, 1, 2, 6, -1)), '5 integers >= 0'),
    '(2, 2, 2, 2, 0)': (dict(preset='qsd-8m', strides=(2, 2, 2, 2, 0)), '5 integers >= 1'),
    '2': (dict(preset='qsd-8m', strides=2), '5 integers'),
    '6': (dict(preset='qsd-8m', stem_kernel=6), 'odd'),
    '-3': (dict(preset='qsd-8m', stem_kernel=-3), 'odd'),
    '0': (dict(preset='qsd-8m', num_heads=0), '>= 1'),
    "'big'": (dict(preset='qsd-8m', layer_scale='big'), 'None'),
    "{'widths'": (dict(widths=W), "'family'"),
    "{'family'": (dict(family='qsd'), "'widths'"),
    '{}': ({}, "'preset'"),
}


@pytest.mark.parametrize('given', BAD)
def test_bad_shapes_are_refused(given):
    arch, allowed = BAD[given]
    with pytest.raises(ValueError) as error:
        resolve_arch(arch)
    message = str(error.value)
    assert message.startswith('arch') and '\n' not in message
    argument, rest = message.split('=', 1)
    assert rest.startswith(given)
    assert allowed in message.split('expected', 1)[1]
    if isinstance(arch, dict) and '.' in argument:
        assert argument.split('.')[1] in arch  # names the field that is wrong


def test_families_and_arch_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ARCH_ZOO['qsd-8m'].num_heads = 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        FAMILIES['qsd'].weight_bits = 8
    assert isinstance(ARCH_ZOO['e-3m'], Arch)


def saved_for_backward(run, model):
    """Bytes that a forward pass keeps for the backward pass, each storage once, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # held, so that no other storage takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = run()
    assert all(out.requires_grad for out in outputs)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.slow
def test_checkpointing_keeps_little_of_the_largest_network():
    """One image of 224 px: 37 MB, of 420 MB without."""
    model, image = SpikeDrivenTransformer('e-173m', with_cp=True).train(), torch.randn(1, 3, 224, 224)
    kept = saved_for_backward(lambda: model(image), model)
    model.with_cp = False
    everything = saved_for_backward(lambda: model(image), model)
    print(f'{kept / 1e6:.0f} MB of {everything / 1e6:.0f} MB')
    assert 0 < kept < 50e6 < 350e6 < everything
    # In the backward pass one block at a time comes back; the first is the largest.
    membrane = torch.randn(1, 96, 112, 112, requires_grad=True)
    first = saved_for_backward(lambda: (model.stages[0].blocks[0](membrane),), model)
    assert kept + first < 250e6
