"""Bits, D and T are said once, in the backbone: the head of the same classifier follows."""

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain')

from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from mmpretrain.models import ImageClassifier  # noqa: E402
from torch import nn  # noqa: E402

from qsdt_mm import cli  # noqa: E402
from qsdt_mm.models.classifiers import SpikeImageClassifier  # noqa: E402
from qsdt_mm.models.heads.classification import SpikeLinearClsHead  # noqa: E402
from qsdt_mm.models.neurons import SpikingNeuron  # noqa: E402
from qsdt_mm.models.quantization import LSQ  # noqa: E402

ROOT = Path(__file__).parents[2]
FOLDERS = ('classification', 'distillation', 'neuromorphic')
CONFIGS = sorted(path for folder in FOLDERS for path in (ROOT / 'configs' / folder).glob('*.py'))
ARCH = dict(family='qsd', widths=(4, 4, 8, 8, 16), depths=(0, 0, 0, 1, 0), num_heads=2)


def build(backbone=(), head=(), kind='SpikeImageClassifier'):
    """A classifier of three classes; more settings of backbone and head."""
    config = dict(
        type=kind,
        backbone={'type': 'SpikeDrivenTransformer', 'arch': ARCH, **dict(backbone)},
        neck=dict(type='GlobalAveragePooling'),
        head={'type': 'SpikeLinearClsHead', 'num_classes': 3, 'in_channels': 16, **dict(head)},
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(config)


def settings(head):
    unit = getattr(head, 'fc_dist', head.fc)
    return unit.synapse.weight_bits, unit.neuron.max_spike_count, head.time_steps


@pytest.mark.parametrize('head', ['SpikeLinearClsHead', 'SpikeTwoHeadClsHead', SpikeLinearClsHead])
@pytest.mark.parametrize(
    ('backbone', 'expected'),
    [
        (dict(), (4, 4, 1)),  # bits of the family
        (dict(weight_bits=2), (2, 4, 1)),
        (dict(max_spike_count=1, weight_bits=32), (32, 1, 1)),
        (dict(max_spike_count=8, time_steps=3, time_mean=False), (4, 8, 3)),
        (dict(time_steps=3), (4, 4, 1)),  # averaged over time before the head
    ],
)
def test_the_head_follows(backbone, expected, head):
    model = build(backbone, dict(type=head))
    assert settings(model.head) == expected
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_what_the_head_says_itself_holds():
    model = build(dict(weight_bits=2, max_spike_count=2, time_steps=2), dict(weight_bits=8, max_spike_count=3))
    assert settings(model.head) == (8, 3, 1)
    assert settings(build(dict(weight_bits=2), dict(weight_bits=None)).head) == (2, 4, 1)


def test_it_is_the_classifier_that_the_same_settings_said_twice_give():
    """Weights too, by the same seed: nothing is drawn in another order."""
    once = build(dict(weight_bits=2, max_spike_count=8))
    twice = build(
        dict(weight_bits=2, max_spike_count=8), dict(weight_bits=2, max_spike_count=8), kind='ImageClassifier'
    )
    assert type(twice) is ImageClassifier and isinstance(once, ImageClassifier)
    assert once.state_dict().keys() == twice.state_dict().keys()
    for name, tensor in once.state_dict().items():
        assert torch.equal(tensor, twice.state_dict()[name]), name


def test_other_heads_and_backbones_are_left_alone():
    assert type(build(head=dict(type='LinearClsHead')).head).__name__ == 'LinearClsHead'
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        resnet = MODELS.build(dict(type='ResNet', depth=18))
        model = MODELS.build(
            dict(
                type='SpikeImageClassifier',
                backbone=resnet,
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='SpikeLinearClsHead', num_classes=3, in_channels=512),
            )
        )
    assert model.backbone is resnet and settings(model.head) == (32, 4, 1)
    head = nn.Identity()
    assert SpikeImageClassifier(resnet, head=head).head is head


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_configs_say_it_once(path):
    """And one option changes all of it."""
    cfg = cli.load_config(str(path), ['model.backbone.weight_bits=2', 'model.backbone.max_spike_count=3'])
    cli.import_library(cfg)
    assert not {'weight_bits', 'max_spike_count', 'time_steps'} & set(cfg.model.head)
    cfg.model.backbone.pop('init_cfg', None)
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert {module.bits for module in model.modules() if isinstance(module, LSQ)} == {2}
    neurons = [module for module in model.modules() if isinstance(module, SpikingNeuron)]
    one_spike = '-lif-' in path.stem  # LIF has no D
    assert {neuron.max_spike_count for neuron in neurons} == (
        {1} if one_spike else set() if '-relu_' in path.stem else {3}
    )
    without_state = '-pictures-' in path.stem  # there no neuron knows another step
    assert {neuron.time_steps for neuron in neurons} <= {1 if without_state else model.backbone.time_steps}
