"""A neuron with a parameter: its equation, its gradient, and that a network holds the parameter once."""

import copy
import math

import pytest
import torch
import toy_runs as toy
from copies import joined
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qsdt_mm import LIF, ParametricLIF, SpikeDrivenTransformer
from qsdt_mm.fileio.checkpoint import load_weights
from qsdt_mm.models.layers import SpikeUnit, UnitFactory
from qsdt_mm.models.layers.unit import register_parameters_once
from qsdt_mm.models.neurons import IELIF, functional
from qsdt_mm.models.neurons.functional import SURROGATES, parametric_lif_step
from qsdt_mm.ops import dispatch

PROPERTY = settings(max_examples=50, deadline=None, derandomize=True)
ARCH = dict(family='qsd', widths=(4, 4, 8, 8, 8), depths=(1, 1, 1, 1, 1), num_heads=2)


def reference(currents, w, threshold, reset, alpha):
    """The equation over time, ``(T, ...)``, in plain operations."""
    decay, potential, spikes = torch.sigmoid(w), torch.full_like(currents[0], reset), []
    for current in currents:
        potential = potential + (1 - decay) * (current - (potential - reset))
        smooth = torch.sigmoid(alpha * (potential - threshold))
        spike = (potential >= threshold).to(potential) + (smooth - smooth.detach())
        potential = torch.where(spike.detach() > 0.5, torch.full_like(potential, reset), potential)
        spikes.append(spike)
    return torch.stack(spikes)


@PROPERTY
@given(
    time_steps=st.integers(1, 6),
    tau=st.floats(1.01, 50),
    threshold=st.floats(0.2, 2),
    reset=st.floats(-1, 0.1),
    alpha=st.floats(1, 8),
    seed=st.integers(0, 10_000),
)
def test_it_is_the_equation_with_its_gradients(time_steps, tau, threshold, reset, alpha, seed):
    source = torch.Generator().manual_seed(seed)
    currents = torch.randn(time_steps, 2, 7, dtype=torch.float64, generator=source) * 3
    upstream = torch.randn(currents.shape, dtype=torch.float64, generator=source)
    neuron = ParametricLIF(threshold, 0.5, time_steps, tau, reset, alpha=alpha).double()
    w, plain = neuron.w.detach().clone().requires_grad_(), currents.clone().requires_grad_()
    folded = currents.flatten(0, 1).clone().requires_grad_()
    out, expected = neuron(folded), reference(plain, w, threshold, reset, alpha) * 0.5
    assert torch.equal(out.detach(), expected.detach().round(decimals=6).flatten(0, 1))
    out.backward(upstream.flatten(0, 1))
    expected.backward(upstream)
    torch.testing.assert_close(folded.grad.unflatten(0, (time_steps, 2)), plain.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(neuron.w.grad, w.grad, rtol=1e-9, atol=1e-12)


@PROPERTY
@given(
    time_steps=st.integers(1, 6),
    surrogate=st.sampled_from(SURROGATES),
    reset=st.sampled_from([0.0, -0.5]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    seed=st.integers(0, 10_000),
)
def test_it_starts_as_lif_bit_for_bit(time_steps, surrogate, reset, dtype, seed):
    currents = torch.randn(time_steps * 3, 5, generator=torch.Generator().manual_seed(seed)).to(dtype) * 2
    arguments = dict(scale=0.5, time_steps=time_steps, tau=2.0, reset=reset, surrogate=surrogate)
    outputs = []
    for kind in (LIF, ParametricLIF):
        inputs = currents.clone().requires_grad_()
        out = kind(**arguments)(inputs)
        out.sum().backward()
        outputs.append((out.detach(), inputs.grad))
    (out, grad), (expected, expected_grad) = outputs
    assert out.dtype is dtype and torch.equal(out, expected) and torch.equal(grad, expected_grad)


@pytest.mark.parametrize('tau', [1.001, 1.5, 2.0, 20.0, 1e6])
def test_it_starts_from_its_time_constant(tau):
    neuron = ParametricLIF(tau=tau)
    assert neuron.decay.item() == pytest.approx(1 - 1 / tau, rel=1e-5, abs=1e-7)
    assert neuron.w.shape == (1,) and list(neuron.state_dict()) == ['w']
    assert f'decay={1 - 1 / tau:.3g}' in repr(neuron) and 'tau' not in repr(neuron)


@pytest.mark.parametrize('tau', [1, 0.5, math.inf, math.nan, '2', None])
def test_a_time_constant_that_no_decay_has_is_refused(tau):
    with pytest.raises(ValueError, match=r'^tau=.* a number > 1$'):
        ParametricLIF(tau=tau)


def test_the_product_is_differentiated_twice():
    values = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    factor = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(functional._times, (values, factor))
    assert torch.autograd.gradgradcheck(functional._times, (values, factor))


def test_the_gradient_of_the_decay_does_not_overflow_in_half_precision():
    """It is a sum over everything: 65536 terms of 2 are no number of 16 bits."""
    w = torch.zeros(1, requires_grad=True)
    membrane = parametric_lif_step(torch.full((256, 256), 8.0, dtype=torch.half), None, w, threshold=100.0)[1]
    assert membrane.dtype is torch.half
    membrane.backward(torch.ones_like(membrane))
    assert w.grad.item() == pytest.approx(-8 * 65536 / 4)


def test_mixed_precision_keeps_membranes_in_it():
    backbone = SpikeDrivenTransformer(ARCH, neuron=dict(type='ParametricLIF', threshold=0.1), time_steps=2)
    with torch.autocast('cpu', torch.bfloat16):
        out = backbone(torch.rand(2, 3, 32, 32))[0]
        loss = out.float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())
    assert ParametricLIF()(torch.ones(2, dtype=torch.bfloat16)).dtype is torch.bfloat16


def network(neuron, **kwargs):
    return SpikeDrivenTransformer(ARCH, neuron=dict(type=neuron), time_steps=2, **kwargs)


def test_it_is_fine_tuned_from_lif(tmp_path):
    source, file = network('LIF'), str(tmp_path / 'lif.pth')
    torch.save(dict(state_dict=source.state_dict()), file)
    model = network('ParametricLIF', init_cfg=dict(type='Pretrained', checkpoint=file))
    model.init_weights()
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(model.eval()(image)[0], source.eval()(image)[0])
    # As "load_from" does: what is new is said, and nothing else differs.
    mismatch = load_weights(network('ParametricLIF'), source.state_dict())
    assert mismatch.missing and all(name.endswith('euron.w') for name in mismatch.missing)
    assert not mismatch.unexpected and not mismatch.shape


def test_what_it_learned_is_not_left_out_unnoticed(tmp_path):
    file = str(tmp_path / 'parametric.pth')
    torch.save(network('ParametricLIF').state_dict(), file)
    with pytest.raises(ValueError, match=r'unknown to it \(.*neuron\.w') as error:
        network('LIF', init_cfg=dict(type='Pretrained', checkpoint=file)).init_weights()
    assert '\n' not in str(error.value)


class TwoUnits(nn.Module):
    """A block of one's own: two units that listen to the same spikes."""

    def __init__(self, neuron):
        super().__init__()
        factory = UnitFactory(dict(type=neuron), 4, 2, 32)
        spikes = factory.make_neuron()
        self.left, self.right = (SpikeUnit(spikes, factory.conv(3, 3)) for _ in range(2))

    def forward(self, membrane):
        return self.left(membrane) + self.right(membrane)


def test_a_shared_parameter_is_registered_once_and_stays_shared():
    block, membrane = TwoUnits('ParametricLIF'), torch.randn(2, 3, 4, 4)
    before = block(membrane)
    register_parameters_once(block)
    register_parameters_once(block)
    assert [name for name in block.state_dict() if name.endswith('.w')] == ['left.neuron.w']
    assert [name for name, _ in block.named_children()] == ['left', 'right']
    for model in (block, copy.deepcopy(block)):
        assert model.left.neuron is model.right.neuron
        assert torch.equal(model(membrane), before)
        model.double()
        assert model.right.neuron.w.dtype is torch.float64
    block.right.neuron = IELIF()  # may be given another one, as before
    assert dict(block.right.named_children())['neuron'] is block.right.neuron


def test_neurons_without_parameters_stay_where_checkpoints_know_them():
    names = list(TwoUnits('IELIF').state_dict()._metadata)
    block = TwoUnits('IELIF')
    register_parameters_once(block)
    assert list(block.state_dict()._metadata) == names and 'right.neuron' in names


def test_a_decay_that_a_subclass_learns_is_given_to_no_kernel(monkeypatch):
    """Kernels take a number, and would have no gradient for it."""

    def find(name, *tensors):
        assert name != 'integrate_and_fire'

    monkeypatch.setattr(dispatch, 'find', find)
    neuron = IELIF(time_steps=2)
    decay = torch.tensor(0.5, requires_grad=True)
    neuron.decay = decay
    neuron(torch.tensor([[0.7], [0.8]])).sum().backward()
    assert decay.grad is not None


def test_where_kernels_run_one_line_says_that_it_has_none(monkeypatch):
    said = []
    monkeypatch.setattr(dispatch, '_noted', set())
    monkeypatch.setattr(dispatch, 'print_log', lambda line, *_: said.append(line))
    ParametricLIF()(torch.ones(2))
    assert not said
    monkeypatch.setattr(dispatch, 'serves', lambda *_: True)
    for kind in (ParametricLIF, ParametricLIF, LIF):
        kind()(torch.ones(2))
    assert said == [f'{name} has no Triton kernel: plain operations run' for name in ('ParametricLIF', 'LIF')]


def learn_with_the_other():
    """One of two processes that train a network on images of their own."""
    import torch.distributed as dist
    from mmengine.model import MMDistributedDataParallel

    dist.init_process_group('gloo')
    torch.manual_seed(0)
    arch = dict(family='qsd', widths=(4, 4, 8, 8, 8), depths=(1, 1, 1, 1, 1), num_heads=2)
    model = SpikeDrivenTransformer(arch, neuron=dict(type='ParametricLIF', threshold=0.1), time_steps=2)
    before = model.stages[1].downsample.neuron.w.item()
    parallel = MMDistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    torch.manual_seed(dist.get_rank())
    for _ in range(3):
        optimizer.zero_grad()
        parallel(torch.rand(2, 3, 32, 32))[0].square().mean().backward()
        optimizer.step()
    learned = torch.cat([p.detach().flatten() for p in model.parameters()])
    everybody = [torch.empty_like(learned) for _ in range(2)]
    dist.all_gather(everybody, learned)
    assert torch.equal(*everybody) and learned.isfinite().all()
    assert model.stages[1].downsample.neuron.w.item() != before


@pytest.mark.skipif(torch.cuda.is_available(), reason='CUDA does not outlive the copying of a process')
def test_two_processes_learn_the_same():
    """No parameter is left without a gradient, which would end the second step."""
    joined(learn_with_the_other, 2, toy.free_port())
