"""Increments of membranes: nothing fires for having been rounded, and layers with large sums keep their weights."""

import json

import pytest
import torch
from deployed import kind, pictures, plan_of
from torch import nn

import qsdt_mm
from qsdt_mm.deploy import Plan, lowering, plan
from qsdt_mm.deploy.arithmetic import in_whole_numbers
from qsdt_mm.deploy.folder import build, describe
from qsdt_mm.deploy.grids import Grid, arranged, lies_beside
from qsdt_mm.deploy.lowering import Lowering
from qsdt_mm.deploy.steps import GRID, Charge, Fire, Normalise
from qsdt_mm.errors import InputError
from qsdt_mm.inference import FoldedLayer
from qsdt_mm.models.quantization import QuantizedWeight


def grid(*steps, beside=True):
    steps = torch.tensor(steps).double()
    return Grid(steps, torch.full(steps.shape, beside))


def values_of(grid, reach=4.0):
    """All values of a grid of one channel up to a reach."""
    step, shift = float(grid.step), float(grid.step) / 2 * bool(grid.beside)
    return torch.arange(-int(reach / step), int(reach / step) + 1).double() * step + shift


@pytest.mark.parametrize('first', [0.125, 0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize('second', [0.125, 0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize('beside', [(a, b) for a in (False, True) for b in (False, True)])
def test_sums_lie_where_the_grid_says(first, second, beside):
    one, other = grid(first, beside=beside[0]), grid(second, beside=beside[1])
    total = one.plus(other)
    sums = (values_of(one)[:, None] + values_of(other)).flatten()
    rest = (sums - float(total.step) / 2 * bool(total.beside)) / float(total.step)
    assert torch.equal(rest, rest.round())
    if bool(total.off_halves):
        assert not bool(((sums - 0.5) % 1 == 0).any())


@pytest.mark.parametrize('known', [None, grid(0.25), grid(0.25, beside=False), grid(4.0), grid(GRID)])
@pytest.mark.parametrize('unit', [GRID, 0.125, 0.25, 0.5])
def test_increments_are_rounded_so_that_sums_avoid_halves(unit, known):
    """One that is coarser than what it is added to cannot, where that lies on its grid."""
    units = torch.tensor([unit]).double()
    own = Grid(units, lies_beside(units, known))
    total = own if known is None else known.plus(own)
    coarser = known is not None and bool(units > known.step)
    assert bool(total.off_halves) or coarser and not bool(known.beside)


def test_steps_above_a_half_are_rounded_to_the_nearest():
    assert lies_beside(torch.tensor([0.5, 1.0, 2.0]).double(), None).tolist() == [True, False, False]


def test_grids_follow_values_that_move():
    one, other = grid(0.25, 0.5), grid(0.125, 1.0, beside=False)
    joined = arranged([one, other], 'cat', dict(dim=1), 4)
    assert joined.step.tolist() == [0.25, 0.5, 0.125, 1.0] and joined.beside.tolist() == [True, True, False, False]
    last = arranged([joined], 'chunk', dict(dim=1, chunks=2, index=1), 2)
    assert torch.equal(last.step, other.step) and torch.equal(last.beside, other.beside)
    assert arranged([one], 'nearest', {}, 2) is one
    assert arranged([one], 'flatten', dict(start=1, end=-1), 8) is None
    assert arranged([grid(0.5, 0.5)], 'flatten', dict(start=1, end=-1), 8).step.tolist() == [0.5] * 8
    assert arranged([one], 'relu', {}, 2) is None


@pytest.mark.parametrize('name', ['qsd', 'large'])
def test_no_membrane_lies_on_a_half(name):
    plan = plan_of(kind(name))
    values, fired = {'pixels': pictures(2, seed=3)}, 0
    for step in plan.steps:
        values[step.output] = step(*(values[source] for source in step.inputs))
        if isinstance(step, Fire) and step.time_steps == 1:
            u = (values[step.inputs[0]] + step.nudge).double() * step.ratio
            fired += 1
            assert not bool(((u - 0.5) % 1 == 0).any()), step
    assert fired > 5


def test_what_is_rounded_does_not_make_neurons_fire(monkeypatch):
    """Bytes rounded to the nearest, with halves up, made a membrane of one increment fire for half a unit less."""
    fire, drive, more = Lowering.fire, Lowering.drive, []

    def counted(self, node):
        made = fire(self, node)
        source = node.inputs[0]
        if source.kind == 'drive' and node not in self.fused:
            wanted = torch.floor(self.real[source] / node.module.threshold + 0.5).clamp(0, node.module.max_spike_count)
            more.append((self.tensors[made.name] - wanted).flatten())
        return made

    def noted(self, node):
        source = self.one(node)
        real = self.tensors[source.name].double() * source.worth
        made = drive(self, node)
        self.__dict__.setdefault('real', {})[node] = node.module.double().drive(real)
        node.module.float()
        return made

    monkeypatch.setattr(Lowering, 'drive', noted)
    monkeypatch.setattr(Lowering, 'fire', counted)
    plan_of(kind('qsd'))
    assert abs(torch.cat(more).mean()) < 1e-3
    more.clear()
    monkeypatch.setattr(lowering, 'lies_beside', lambda units, known: torch.zeros_like(units).bool())
    plan_of(kind('qsd'))
    assert torch.cat(more).mean() > 4e-3  # as it was


def wide_layer(inputs=512, outputs=4, gain=2e-3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-7, 8, (outputs, inputs, 1, 1), generator=generator, dtype=torch.int8)
    gain = torch.full((outputs,), gain).double() * torch.tensor([1.0, -1.1, 1.37, 0.83]).double()
    offset = torch.tensor([0.3, -0.2, 0.0, 7.0]).double()
    layer = FoldedLayer(nn.Conv2d(inputs, outputs, 1), QuantizedWeight(weight, gain, bits=4), gain, offset)
    return layer, gain, offset


@pytest.mark.parametrize('inputs', [256, 512, 2048])
def test_a_layer_of_large_sums_keeps_its_weights(inputs):
    """The projection of attention, bytes to bytes: sums of 17 bits leave M few, which cost the weights theirs."""
    layer, gain, offset = wide_layer(inputs)
    worth = torch.full((4,), 2.0**-4).double()
    numbers = in_whole_numbers(
        layer, gain * worth, offset, worth, to='byte', high=0, source='byte', most=127, name='x', step=GRID
    )
    assert torch.equal(numbers.weight, layer.weight)
    values = torch.randint(-127, 128, (50, inputs, 1, 1), generator=torch.Generator().manual_seed(1)).double()
    whole = numbers.weight.double() * numbers.multiplier.view(-1, 1, 1, 1)
    sums = torch.einsum('nixy,oixy->no', values, whole) + numbers.bias
    scaled = sums * numbers.scale
    assert not bool((scaled % 1 == 0.5).any())  # rule 2
    assert bool(((sums.float() * numbers.scale.float()).double() == scaled)[(scaled > 0) & (scaled < 256)].all())
    found = (scaled.round() - 128) * numbers.worth
    wanted = torch.einsum('nixy,oixy->no', values, layer.weight.double()) * gain * worth + offset
    inside = (scaled > 1) & (scaled < 255)
    assert inside.double().mean() > 0.3
    error = (found - wanted)[inside] / worth[0]
    assert error.abs().max() < 0.75 and error.square().mean().sqrt() < 0.35  # 0.29 is rounding alone


@pytest.mark.parametrize('to', ['count', 'byte'])
@pytest.mark.parametrize('gain', [0.3, 0.02, 1e-3])
def test_gains_are_near_what_they_should_be(to, gain):
    """M was the next below that had just enough bits: gains of layers to counts were 3 % too low."""
    layer, gains, offset = wide_layer(64, gain=gain)
    numbers = in_whole_numbers(
        layer, gains, offset, torch.ones(4).double(), to=to, high=4, source='byte', most=127, name='layer', step=GRID
    )
    found = numbers.scale * numbers.multiplier * numbers.worth / gains
    assert (found - 1).abs().max() < 4e-3


@pytest.mark.parametrize('std', [[51.6, 50.8, 51.3], [1.0]])
def test_images_are_rounded_finer_than_pixels(std, monkeypatch):
    """Where a deviation is no whole number of pixels, one step was up to 1.6 of them."""
    std = torch.tensor(std).expand(3)
    mean = torch.tensor([0.0 if std[0] == 1 else 120.7])
    found = plan(kind('qsd'), pictures(2), mean=mean, std=std, run=lambda m, x: m(x))
    (step,) = [step for step in found.steps if isinstance(step, Normalise)]
    if std[0] == 1:
        assert step.gain.tolist() == [1.0] * 3 and step.offset.tolist() == [0.0] * 3
    else:
        assert float(step.gain.min()) >= 4 and float(step.gain.max()) <= 16
    assert step(torch.tensor([0, 255]).view(1, 1, 1, 2).expand(1, 3, 1, 2)).abs().max() <= 2**11


def test_later_versions_know_offsets(tmp_path):
    """Folders say which version reads them: 1 where that does."""
    delta = torch.tensor([0.25])
    steps = [
        Normalise(('pixels',), 'image', torch.ones(1), torch.zeros(1)),
        Charge(('image',), 'u', delta, torch.tensor([1024])),
        Charge(('u', 'image'), 'v', delta.clone()),
    ]
    made = Plan(steps, 'v', (1, 2, 2))
    pixels = torch.arange(4).view(1, 1, 2, 2)
    assert made(pixels).flatten().tolist() == [0.125, 0.625, 1.125, 1.625]
    for version, name in ((2, 'new'), (1, 'old')):
        qsdt_mm.save_pretrained(made, tmp_path / name)
        assert json.loads((tmp_path / name / 'config.json').read_text())['format_version'] == version
        assert torch.equal(qsdt_mm.from_pretrained(tmp_path / name)(pixels), made(pixels))
        steps[1]._buffers.pop('offset', None)


@pytest.mark.parametrize('offset', [torch.ones(2), torch.tensor([[1]]), torch.tensor([2**24 + 1])])
def test_offsets_that_do_not_fit_are_refused(offset):
    step = Charge(('pixels',), 'u', torch.ones(1), torch.ones(1))
    made = Plan([step], 'u', (1, 2, 2))
    content, tensors, _ = describe(made)
    with pytest.raises(InputError, match=r'plan\.steps\[0\], Charge\.offset'):
        build(content, dict(tensors, **{'steps.0.offset': offset}))
