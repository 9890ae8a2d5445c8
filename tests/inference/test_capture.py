"""Nothing in evaluation waits for the device, which a capture forbids: seen on torch's CUDA tensors without memory."""

import copy

import pytest
import torch
from tiny_backbones import families, tiny
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

from qsdt_mm.inference import convert, fold_norms
from qsdt_mm.inference.capturing import CannotCaptureError, NothingWaits

CUDA = torch.device('cuda')
FORMS = dict(
    trained=lambda model: model,
    folded=fold_norms,
    integer=lambda model: convert(model, 'integer', None if model.arch.family == 'qsd' else 8),
    spike=lambda model: convert(model, 'spike', None if model.arch.family == 'qsd' else 8),
)


def on_fake_gpu(model, *images):
    """Outputs of a network on a GPU that is not there, none of whose operators waits for it."""
    model = copy.deepcopy(model)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        for module in model.modules():
            for register in (module._parameters, module._buffers):
                for name, value in register.items():
                    if value is not None:
                        fake = mode.from_tensor(value.detach()).to(CUDA)
                        register[name] = torch.nn.Parameter(fake, False) if name in module._parameters else fake
        images = [tree_map_only(torch.Tensor, lambda t: mode.from_tensor(t).to(CUDA), image) for image in images]
        with NothingWaits(CUDA):
            return tree_leaves(model(*images))


@pytest.mark.parametrize('form', FORMS)
@families
def test_backbones(family, form):
    model = FORMS[form](tiny(family=family).eval())
    image = torch.randn(1, 3, 32, 32)
    precisions = (None, torch.bfloat16) if form in ('trained', 'folded') else (None,)
    for precision in precisions:
        with torch.autocast('cuda', precision, enabled=precision is not None, cache_enabled=False):
            found = on_fake_gpu(model, image)
        assert [tuple(t.shape) for t in found] == [tuple(t.shape) for t in model(image)]
        assert all(t.is_cuda for t in found)


@pytest.mark.parametrize('form', ['trained', 'integer'])
@pytest.mark.parametrize('neuron', [None, dict(type='LIF'), dict(type='ParametricLIF')], ids=str)
def test_neurons_over_time(neuron, form):
    arch = dict(family='qsd', widths=(4, 8, 8, 16, 24), depths=(0, 1, 0, 1, 0), num_heads=4)
    model = FORMS[form](tiny(arch=arch, time_steps=2, neuron=neuron).eval())
    assert all(t.is_cuda for t in on_fake_gpu(model, torch.randn(1, 2, 3, 32, 32)))


def classifier():
    pytest.importorskip('mmpretrain')
    from qsdt_mm.models.heads.classification import SpikeLinearClsHead

    head = SpikeLinearClsHead(5, 16, weight_bits=4).eval()
    return head, ((torch.randn(2, 16),),)


def pyramid():
    pytest.importorskip('mmdet')
    from qsdt_mm.models.necks.detection import SpikeFPN

    neck = SpikeFPN(in_channels=[8, 16], out_channels=16, num_outs=3, weight_bits=4).eval()
    return neck, ([torch.randn(1, 8, 8, 8), torch.randn(1, 16, 4, 4)],)


def proposals():
    pytest.importorskip('mmdet')
    from qsdt_mm.models.heads.detection import SpikeRPNHead

    return SpikeRPNHead(in_channels=8, feat_channels=8).eval(), ((torch.randn(1, 8, 8, 8), torch.randn(1, 8, 4, 4)),)


PARTS = dict(classifier=classifier, pyramid=pyramid, proposals=proposals)


@pytest.mark.parametrize('part', PARTS)
def test_parts_beside_the_backbone(part):
    model, inputs = PARTS[part]()
    shapes = [tuple(t.shape) for t in tree_leaves(model(*inputs))]
    assert [tuple(t.shape) for t in on_fake_gpu(model, *inputs)] == shapes


def test_steps_of_a_plan():
    from qsdt_mm.deploy.steps import Fire, Round, Scale

    fire = Fire(('u',), 'n', ratio=0.75, max_spike_count=4, time_steps=1, nudge=0.0)
    for step in (
        fire,
        Round(('s',), 'n', scale=0.3, shift=0.5, low=0, high=4, whole=True),
        Scale(('u',), 'o', worth=0.1),
    ):
        assert on_fake_gpu(step, torch.ones(3))[0].is_cuda


WAYS = dict(
    tolist=lambda x: torch.tensor(x.tolist()),
    cpu=lambda x: x.cpu(),
    constant=lambda x: x * torch.tensor([1.0, 2.0], device=x.device),
    scalar=lambda x: x * torch.as_tensor(0.5, device=x.device),
)


@pytest.mark.parametrize('way', WAYS)
def test_what_goes_between_host_and_device_is_found(way):
    class Moves(torch.nn.Module):
        def forward(self, image):
            return WAYS[way](image)

    with pytest.raises(
        (CannotCaptureError, RuntimeError), match='goes between cpu and cuda|data-dependent|_local_scalar'
    ):
        on_fake_gpu(Moves(), torch.ones(2))
