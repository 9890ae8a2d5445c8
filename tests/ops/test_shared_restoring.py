"""Layers that read the same spikes get one restored tensor in a backward pass, which goes with the last of them."""

import gc
import weakref

import pytest
import torch
from torch import nn

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.models.neurons import IELIF, functional
from qsdt_mm.ops import compact_saving, spiking


class Readers(nn.Module):
    """A neuron, and three layers that its spikes drive."""

    def __init__(self):
        super().__init__()
        self.neuron = IELIF()
        self.layers = nn.ModuleList(nn.Linear(6, 4, bias=False) for _ in range(3))

    def forward(self, membrane, compact=True):
        with compact_saving.compact_saving() if compact else compact_saving.plain_saving():
            spikes = self.neuron(membrane)
            return [layer(spikes).square().sum() for layer in self.layers]


@pytest.fixture
def restored(monkeypatch):
    """Weak references to what is restored."""
    found = []
    restore = spiking.restore_spikes

    def counted(*arguments):
        found.append(weakref.ref(restore(*arguments)))
        return found[-1]()

    monkeypatch.setattr(spiking, 'restore_spikes', counted)
    return found


@pytest.fixture
def readers():
    return Readers()


def membrane(requires_grad=True):
    return (2 * torch.randn(5, 6)).requires_grad_(requires_grad)


def gradients(losses, inputs, **arguments):
    return torch.autograd.grad(sum(losses), inputs, **arguments)


def alive(references):
    gc.collect()
    return sum(reference() is not None for reference in references)


def test_one_for_all_and_for_each_backward_pass(readers, restored):
    inputs = membrane()
    wanted = (inputs, *readers.parameters())
    losses = readers(inputs)
    found = gradients(losses, wanted, retain_graph=True)
    assert len(restored) == 1 and alive(restored) == 0
    again = gradients(losses, wanted)
    assert len(restored) == 2 and alive(restored) == 0
    plain = gradients(readers(inputs, compact=False), wanted)
    for one, other, expected in zip(found, again, plain):
        assert torch.equal(one, expected) and torch.equal(other, expected)


def test_a_part_of_the_graph_leaves_nothing_behind(readers, restored):
    inputs = membrane()
    losses = readers(inputs)
    first = gradients(losses[:2], [layer.weight for layer in readers.layers[:2]], retain_graph=True)
    assert len(restored) == 1 and alive(restored) == 0
    (last,) = gradients(losses[2:], [readers.layers[2].weight])
    assert len(restored) == 2 and alive(restored) == 0
    plain = gradients(readers(inputs, compact=False), list(readers.parameters()))
    assert all(torch.equal(one, other) for one, other in zip((*first, last), plain))


def test_a_neuron_without_a_gradient(readers, restored):
    sum(readers(membrane(requires_grad=False))).backward()
    assert len(restored) == 1 and alive(restored) == 0


def test_gone_after_the_last_reader_before_the_pass_ends(readers, restored):
    inputs, seen = membrane(), []
    inputs.register_hook(lambda grad: seen.append(alive(restored)))
    sum(readers(inputs)).backward()
    assert seen == [0]


def test_steps_whose_gradients_add_up(readers, restored):
    batches = membrane(), membrane()
    losses = [sum(readers(batch)) for batch in batches]
    for loss in losses:
        loss.backward()
    assert len(restored) == 2 and alive(restored) == 0
    found = [p.grad.clone() for p in readers.parameters()]
    readers.zero_grad()
    for batch in batches:
        sum(readers(batch, compact=False)).backward()
    assert all(torch.equal(one, p.grad) for one, p in zip(found, readers.parameters()))


def test_gradients_of_gradients(readers):
    inputs = membrane()
    weights = list(readers.parameters())

    def second(compact):
        first = gradients(readers(inputs, compact), weights, create_graph=True)
        return torch.autograd.grad(sum(grad.square().sum() for grad in first), weights)

    for one, other in zip(second(True), second(False)):
        assert torch.equal(one, other) and one.abs().sum() > 0


def test_whoever_looks_at_saved_tensors_outside_of_a_pass_gets_a_tensor_of_his_own():
    layers = [nn.Linear(6, 4) for _ in range(2)]
    with compact_saving.compact_saving():
        spikes = functional.scaled_spikes(membrane(), 1.0, 4, 0.25)
        outs = [layer(spikes) for layer in layers]
    for out in outs:
        saved = [getattr(out.grad_fn, name) for name in dir(out.grad_fn) if name.startswith('_saved_mat1')]
        assert torch.equal(saved[0], spikes)
        saved[0].zero_()
    torch.stack(outs).sum().backward()
    for layer in layers:
        torch.testing.assert_close(layer.weight.grad, spikes.sum(0).expand(4, 6))


def test_what_a_hook_writes_into_spikes_is_kept_as_written(readers):
    readers.neuron.register_forward_hook(lambda _, __, spikes: spikes.mul_(2))
    inputs = membrane()
    found = gradients(readers(inputs), list(readers.parameters()))
    plain = gradients(readers(inputs, compact=False), list(readers.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(found, plain))


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('family', ['qsd', 'espike'])
def test_a_network_restores_the_spikes_of_a_neuron_once(restored, family, with_cp):
    arch = dict(family=family, widths=(4, 4, 4, 8, 8), depths=(0, 0, 0, 1, 0), num_heads=2)
    model = SpikeDrivenTransformer(arch, with_cp=with_cp).train()
    neurons = [m for m in model.modules() if isinstance(m, IELIF)]
    fired = []
    for neuron in set(neurons):
        neuron.register_forward_hook(lambda *_: fired.append(_))
    out = model(torch.randn(1, 3, 32, 32))[0].square().mean()
    forward = len(fired)
    out.backward()
    assert 0 < len(restored) <= forward and alive(restored) == 0
