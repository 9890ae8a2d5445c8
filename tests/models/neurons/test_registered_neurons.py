"""Every neuron of the package: it trains by the shipped schedules, is saved and loaded, converts, and is counted."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

import qsdt_mm
from qsdt_mm.analysis import measure_energy
from qsdt_mm.inference import convert
from qsdt_mm.models.heads.classification import SpikeLinearClsHead
from qsdt_mm.models.neurons import SpikingNeuron

ROOT = Path(__file__).parents[3]
NEURONS = sorted(
    name
    for name, kind in MODELS.module_dict.items()
    if isinstance(kind, type) and issubclass(kind, SpikingNeuron) and kind.__module__.startswith('qsdt_mm.')
)
SCHEDULES = sorted((ROOT / 'configs/_base_/schedules').glob('*.py'))
OWN_SCHEDULES = sorted(path for path in (ROOT / 'configs').glob('*/*.py') if 'optim_wrapper' in path.read_text())
ARCH = dict(family='qsd', widths=(8, 8, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2)


class Net(BaseModel):
    """A backbone, and a head whose parameters the schedules' ``custom_keys`` know."""

    def __init__(self, neuron, **backbone):
        super().__init__()
        config = dict(type=neuron, threshold=0.0625)  # low: few tokens drive the neuron after an attention, too
        self.backbone = qsdt_mm.SpikeDrivenTransformer(
            ARCH, neuron=config, time_steps=2, weight_bits=4, time_mean=False, **backbone
        )
        self.decode_head = SpikeLinearClsHead(3, 16, neuron=config, time_steps=2)
        self.get_layer_depth = lambda name: self.backbone.get_layer_depth(name, 'backbone.')

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.decode_head((self.backbone(inputs)[0].mean((2, 3)),))
        if mode != 'loss':
            return scores
        return dict(loss=torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)) % 3))

    def learned(self):
        """The neurons' parameters."""
        return {
            f'{name}.{key}': value
            for name, module in self.named_modules()
            if isinstance(module, SpikingNeuron)
            for key, value in module.named_parameters(recurse=False)
        }


def train(model, optim_wrapper, steps=3):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        import mmpretrain.engine  # noqa: F401  LAMB, and the constructor that decays by layer

        wrapper = build_optim_wrapper(model, optim_wrapper)
    model.train()
    for _ in range(steps):
        model.train_step(dict(inputs=torch.rand(2, 3, 32, 32), data_samples=None), wrapper)
    return wrapper


def groups_of(wrapper, parameters):
    """For each parameter, the groups that it is in."""
    return [
        [g for g in wrapper.optimizer.param_groups if any(p is parameter for p in g['params'])]
        for parameter in parameters
    ]


def test_the_list_is_what_is_exported():
    from qsdt_mm.models import neurons

    assert (
        sorted(name for name in neurons.__all__ if name[0].isupper() and name != 'SpikingNeuron') == NEURONS
        and len(NEURONS) >= 3
    )


@pytest.mark.parametrize('schedule', SCHEDULES, ids=lambda path: path.stem)
def test_a_learned_neuron_trains_by_every_schedule(schedule):
    model = Net('ParametricLIF')
    before = {name: p.detach().clone() for name, p in model.learned().items()}
    assert sum('branch.key.neuron' in name or 'branch.value.neuron' in name for name in before) == 0
    wrapper = train(model, Config.fromfile(schedule).optim_wrapper)
    found = groups_of(wrapper, model.parameters())
    assert all(len(groups) == 1 for groups in found)
    assert all(g['weight_decay'] == 0 for (g,) in groups_of(wrapper, model.learned().values()))
    assert any(g['weight_decay'] > 0 for g in wrapper.optimizer.param_groups)
    moved = [not torch.equal(before[name], p) for name, p in model.learned().items()]
    assert all(moved) and all(p.isfinite().all() for p in model.parameters())


def test_no_config_lets_neurons_decay():
    """Whatever a parameter of a neuron looks like: no number, one, or many for each channel."""
    seen = {}
    for path in SCHEDULES + OWN_SCHEDULES:
        optim_wrapper = Config.fromfile(path).optim_wrapper
        seen.setdefault(repr(optim_wrapper), optim_wrapper)
    assert OWN_SCHEDULES and len(seen) > len(SCHEDULES)
    model = Net('ParametricLIF')
    neuron = model.backbone.stages[1].blocks[0][0].branch[0].neuron
    neuron.scalar, neuron.plane = (torch.nn.Parameter(torch.ones(shape)) for shape in ((), (8, 1, 1)))
    for optim_wrapper in seen.values():
        wrapper = train(model, optim_wrapper, steps=0)
        assert all(g['weight_decay'] == 0 for (g,) in groups_of(wrapper, model.learned().values())), optim_wrapper


@pytest.mark.parametrize('neuron', NEURONS)
def test_it_trains_is_saved_converts_and_is_counted(neuron, tmp_path):
    model = Net(neuron)
    average = ExponentialMovingAverage(model, momentum=0.5)
    train(model, Config.fromfile(ROOT / 'configs/_base_/schedules/moving_digits_5e.py').optim_wrapper)
    average.update_parameters(model)
    assert {name for name, _ in average.module.named_parameters()} == {name for name, _ in model.named_parameters()}

    model.eval()
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(image)
        assert torch.equal(copy.deepcopy(model)(image), expected)
        torch.save(model.state_dict(), tmp_path / 'weights.pth')
        twin = Net(neuron).eval()
        twin.load_state_dict(torch.load(tmp_path / 'weights.pth', weights_only=True))
        assert torch.equal(twin(image), expected)

        assert torch.equal(convert(model, 'integer', 8)(image), convert(model, 'spike', 8)(image))
        # With the head's real weights: what was trained, to rounding.
        torch.testing.assert_close(convert(model, 'spike')(image), expected, rtol=1e-4, atol=1e-5)
    report = measure_energy(model, [image])
    assert report.energy_mj > 0 and sum(layer.sops for layer in report.layers) > 0
    for name, activity in report.neurons.items():
        assert activity.time_steps == model.get_submodule(name).time_steps


@pytest.mark.parametrize(
    ('neuron', 'preset'),
    [*((name, 'qsd-8m') for name in NEURONS), ('ParametricLIF', 'e-3m'), ('ParametricLIF', 'e-83m')],
)
def test_it_is_built_without_memory(neuron, preset):
    with torch.device('meta'):
        backbone = qsdt_mm.SpikeDrivenTransformer(preset, neuron=dict(type=neuron), time_steps=2)
    assert all(parameter.is_meta for parameter in backbone.parameters()) and neuron in repr(backbone)


@pytest.mark.parametrize('neuron', NEURONS)
def test_blocks_that_are_computed_again_give_the_same_gradients(neuron):
    plain = Net(neuron)
    again = Net(neuron, with_cp=True)
    again.load_state_dict(plain.state_dict())
    image = torch.rand(2, 3, 32, 32)
    for model in (plain, again):
        model(image, mode='loss')['loss'].backward()
    for (name, a), b in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    assert all(p.grad is not None for p in plain.learned().values())
