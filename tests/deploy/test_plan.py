"""Plans: the same bits from counts as from spikes, in any carrier; near the network; and a line for what cannot go."""

from types import SimpleNamespace

import pytest
import torch
from deployed import KINDS, WithHead, kind, pictures, plan_of, shown
from torch import nn
from trained_networks import trained

from qsdt_mm.deploy import plan
from qsdt_mm.deploy.calls import factor_of
from qsdt_mm.deploy.lowering import Lowering, largest_input
from qsdt_mm.deploy.steps import Convolve
from qsdt_mm.errors import InputError
from qsdt_mm.inference import int8
from qsdt_mm.models import IELIF
from qsdt_mm.models.heads.classification import SpikeLinearClsHead, SpikeTwoHeadClsHead

MEAN, STD = torch.tensor([120.0]), torch.tensor([58.0])


def assert_equal(a, b):
    assert len(a) == len(b)
    for first, second in zip(a, b):
        assert torch.equal(first, second)


@pytest.mark.parametrize('name', KINDS)
def test_spikes_have_the_bits_of_counts(name):
    network = kind(name)
    deployed, images = plan_of(network), shown(network, 2, seed=2)
    outputs = deployed(images)
    assert_equal(deployed.with_spikes()(images), outputs)
    assert all(output.isfinite().all() and output.std() > 0 for output in outputs)


@pytest.mark.parametrize('name', ['qsd', 'espike'])
def test_without_8_bit_kernels_the_bits_are_the_same(name, monkeypatch):
    network = kind(name)
    deployed, images = plan_of(network), shown(network, 2, seed=2)
    outputs = deployed(images)
    monkeypatch.setattr(int8, 'is_available', lambda: False)
    assert_equal(deployed(images), outputs)
    monkeypatch.setattr(Convolve, 'carried', lambda self, values: values.double())  # as on a GPU
    assert_equal(deployed(images), outputs)


@pytest.mark.parametrize('extreme', [0, 255])
def test_extreme_pictures_keep_all_rules(extreme):
    deployed = plan_of(kind('qsd'))
    images = torch.full((1, 3, 32, 32), extreme, dtype=torch.uint8)
    assert_equal(deployed.with_spikes()(images), deployed.with_spikes(False)(images))


@pytest.mark.parametrize('name', ['qsd', 'espike', 'large', 'two_bits'])
def test_each_unit_is_near_that_of_the_network(name, monkeypatch):
    """Given the same spikes: increments to a few hundredths of their deviation, all but a few counts exactly."""
    lower, errors = Lowering.drive, []

    def drive(self, node):
        source, made = self.one(node), lower(self, node)
        users = self.users[node]
        wanted = node.module.double().drive(self.tensors[source.name].double() * source.worth)
        node.module.float()
        if made.kind == 'increment':
            middle = self.tensors[made.name] + made.own_grid.beside.view(-1, 1, 1) / 2
            found = middle * made.worth_in_thresholds.view(-1, 1, 1) * made.threshold
            scale = factor_of(users[0])
            wanted = wanted if scale is None else wanted * scale
            errors.append((found - wanted).square().mean().sqrt() / wanted.std())
        elif made.kind == 'count':
            errors.append((users[0].module.double().count(wanted) != self.tensors[made.name]).double().mean())
        return made

    monkeypatch.setattr(Lowering, 'drive', drive)
    plan_of(kind(name))
    assert len(errors) > 10 and max(errors) < 0.06 and sum(errors) < 0.02 * len(errors)


@pytest.mark.parametrize('head', [SpikeLinearClsHead, SpikeTwoHeadClsHead])
@pytest.mark.parametrize('time_steps', [1, 2])
def test_classifiers_go_whole(head, time_steps):
    backbone = trained('qsd', time_steps=time_steps, time_mean=False)
    model = WithHead(backbone, head(10, 24, time_steps=time_steps, weight_bits=4)).eval()
    images = pictures(4)
    deployed = plan(model, images, mean=MEAN, std=STD, run=lambda m, x: m(x))
    logits = deployed(images)
    assert logits.shape == (4, 10) and logits.std() > 0
    assert torch.equal(deployed.with_spikes()(images), logits)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(neuron=dict(type='ReLU')), 'ReLU fires by another rule'),
    (dict(neuron=dict(type='LIF', tau=3), max_spike_count=1, time_steps=2), 'LIF with tau=3 over T=2 carries 0.666667'),
    (dict(neuron=dict(type='IELIF', decay=0.9), time_steps=2), 'IELIF with decay=0.9 over T=2 carries 0.9 of'),
    (dict(max_spike_count=200), 'D=200 exceeds 127'),
])  # fmt: skip
def test_a_neuron_that_cannot_go_is_named(options, message):
    with pytest.raises(ValueError, match=rf'stages\..*{message}'):
        plan_of(trained('qsd', **options))


@pytest.mark.parametrize('most', [1, 2, 7, 8, 15, 16, 100, 127])
@pytest.mark.parametrize('bits', [4, 32])
def test_any_number_of_spikes_leaves_room_for_odd_multipliers(most, bits):
    deployed = plan_of(trained('qsd', max_spike_count=most, weight_bits=bits, out_indices=(0, 1)))
    assert deployed(pictures(1))[-1].isfinite().all()


@pytest.mark.parametrize(('weight', 'integer'), [
    (torch.full((2, 960), 0.9), False), (torch.full((2, 960), 127.0), True), (torch.eye(3), False),
])  # fmt: skip
def test_what_drives_a_wide_layer_without_a_neuron_keeps_its_sums_exact(weight, integer):
    """Such as the first head of the large networks: 512 channels and more."""
    largest = largest_input(SimpleNamespace(weight=weight, transposed=False, integer=integer))
    whole = weight if integer else (weight / weight.amax() * 64).round()
    reach = float(whole.abs().sum(1).max()) * largest
    assert largest == 2**11 - 1 or reach > 0.7 * 2**24
    assert reach <= 0.75 * 2**24


def test_a_norm_that_depends_on_its_input_is_named():
    network = trained('qsd')
    network.stages[2].downsample.norm = nn.GroupNorm(2, 8)
    with pytest.raises(ValueError, match=r'stages\.2\.downsample cannot be deployed: its norm, GroupNorm'):
        plan_of(network)


def test_a_layer_outside_units_is_named():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.neck = trained('qsd'), nn.Conv2d(24, 8, 1)

        def forward(self, image):
            return self.neck(self.backbone(image)[-1])

    with pytest.raises(ValueError, match=r'conv2d in neck cannot be deployed: no whole-number form'):
        plan(Model().eval(), pictures(2), run=lambda m, x: m(x))


def test_a_silent_channel_is_a_constant():
    network = trained('qsd')
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[0] = 0
    deployed, images = plan_of(network), pictures(2, seed=2)
    assert_equal(deployed.with_spikes()(images), deployed.with_spikes(False)(images))
    found = deployed(images)[0][:, 0]
    with torch.no_grad():
        wanted = network((images.float() - 120) / 58)[0][:, 0]
    assert (found - wanted).abs().max() < 0.01 < wanted.abs().max()


def test_the_network_is_left_as_it_was():
    network = trained('qsd')
    image = torch.randn(1, 3, 32, 32)
    before = network(image)
    plan_of(network)
    assert 'drive' not in vars(network.stages[0].downsample)
    assert_equal(network(image), before)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r'pixels=\(1, 3, 40, 40\)'):
        plan_of(trained('qsd'))(pictures(1, size=(40, 40)))


def test_images_are_whole_numbers():
    with pytest.raises(ValueError, match='images='):
        plan(trained('qsd'), torch.rand(2, 3, 32, 32))


def test_a_network_without_raw_outputs_is_one_line():
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = trained('qsd')

        def forward(self, image, mode='loss'):
            return self.backbone(image)[0] + None

        def extract_feat(self, image):
            return self.backbone(image)

    with pytest.raises(InputError, match=r'Detector does not go from an image to raw outputs .*: give run'):
        plan(Detector().eval(), pictures(2))
    assert len(plan(Detector().eval(), pictures(2), run=lambda m, x: m.extract_feat(x))(pictures(1))) == 5


def test_a_neuron_that_sees_spikes_is_named():
    """Not taken for the one whose counts a layer gives at once."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.first, self.second = trained('qsd'), IELIF(), IELIF(threshold=0.5)

        def forward(self, image):
            return self.second(self.first(self.backbone(image)[-1]))

    with pytest.raises(ValueError, match='fire in second cannot be deployed: its input is a count, not a membrane'):
        plan(Model().eval(), pictures(2), run=lambda m, x: m(x))
