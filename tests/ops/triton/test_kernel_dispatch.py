"""Who gets a kernel, who does not, and that a network gives the same with and without."""

import sys
from pathlib import Path

import fresh_python
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.models.neurons import IELIF, SpikingNeuron, functional
from qsdt_mm.models.quantization import QuantConv2d
from qsdt_mm.ops import compact_saving, dispatch, spiking
from qsdt_mm.ops import dispatch as kernels

ROOT = Path(__file__).parents[3]
GPU = torch.device('cuda', 0)
OLD_TORCH = not hasattr(torch.compiler, 'is_compiling')


def test_neither_importing_nor_training_on_a_cpu_loads_triton():
    code = """
import sys, torch
without = 'triton' not in sys.modules  # torch may load it by itself
from qsdt_mm.models import IELIF, QuantLinear
layer = torch.nn.Sequential(QuantLinear(3, 2), IELIF())
layer(torch.randn(2, 3)).sum().backward()
kernels = [name for name in sys.modules if name.startswith('qsdt_mm.ops.triton.')]
assert not kernels, kernels
assert without == ('triton' not in sys.modules)
"""
    done = fresh_python.run(['-c', code], cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(OLD_TORCH, reason='in torch 2.1 even fake tensors of a GPU need its driver')
def test_what_is_served(monkeypatch):
    """Tensors that only say that they are on a GPU stand in for those that are."""
    monkeypatch.setattr(dispatch, 'works', lambda device, dtype: True)
    with FakeTensorMode():
        on_gpu = torch.empty(2, device=GPU)
        assert not dispatch.serves(on_gpu)  # subclasses are not
        monkeypatch.setattr(dispatch, 'PLAIN', (torch.Tensor, FakeTensor))
        assert dispatch.serves(on_gpu)
        assert dispatch.serves(on_gpu.half()) and dispatch.serves(on_gpu.bfloat16(), on_gpu.bfloat16())
        assert not dispatch.serves(on_gpu.double()) and not dispatch.serves(on_gpu.int())
        assert not dispatch.serves(on_gpu, on_gpu.half())
        assert not dispatch.serves(on_gpu, torch.empty(2))
        assert not dispatch.serves(on_gpu[:0])
        assert not dispatch.serves(torch.empty(2))
        assert not dispatch.serves(torch.empty(2, device='meta'))
        monkeypatch.setattr(torch.jit, 'is_tracing', lambda: True)
        assert not dispatch.serves(on_gpu)


def test_a_compiler_sees_plain_functions(interpreted, monkeypatch):
    monkeypatch.setattr(dispatch, 'serves', lambda *tensors: True)
    assert kernels.find('fire', torch.empty(2)) is interpreted.neuron.fire
    monkeypatch.setattr(dispatch, 'is_compiling', lambda: True)
    assert kernels.find('fire', torch.empty(2)) is None


def test_every_name_has_its_kernel(interpreted, monkeypatch):
    monkeypatch.setattr(dispatch, 'serves', lambda *tensors: True)
    for name in dispatch.KERNEL_MODULES:
        assert kernels.find(name, torch.empty(2)).__name__ == name


def test_without_triton(monkeypatch, recwarn):
    monkeypatch.setattr(dispatch, '_verdicts', {})
    monkeypatch.setitem(sys.modules, 'triton', None)
    assert not dispatch.works(GPU, torch.float32)
    assert not recwarn


def test_a_device_where_kernels_fail_is_left_to_plain_functions(interpreted, monkeypatch, recwarn):
    """Said once, with the reason."""

    def broken(*args):
        raise RuntimeError('no C compiler\nand more')

    monkeypatch.setattr(dispatch, '_verdicts', {})
    monkeypatch.setattr(interpreted.neuron, 'fire', broken)
    cpu = torch.device('cpu')
    assert not dispatch.works(cpu, torch.float32) and not dispatch.works(cpu, torch.float32)
    assert [str(w.message) for w in recwarn] == [
        'no Triton kernels for torch.float32 on cpu, plain operations run instead: RuntimeError: no C compiler'
    ]


@pytest.mark.parametrize('dtype', dispatch.DTYPES)
def test_the_trial_passes_and_can_be_failed(interpreted, monkeypatch, dtype):
    """By a product with the reciprocal; by half precision that rounds once, at the end."""
    cpu = torch.device('cpu')
    assert interpreted.self_test.differing(cpu, dtype) == []
    fire = interpreted.neuron.fire

    def careless(membrane, threshold, max_spike_count, *constants):
        if dtype is torch.float32:
            return fire(membrane * (1 / threshold), 1.0, max_spike_count, *constants)
        spikes, kept = fire(membrane.float(), threshold, max_spike_count, *constants)
        return spikes.to(dtype), kept

    monkeypatch.setattr(interpreted.neuron, 'fire', careless)
    assert interpreted.self_test.differing(cpu, dtype) == ['spikes']
    monkeypatch.setattr(dispatch, '_verdicts', {})
    with pytest.warns(UserWarning, match='plain operations run instead: wrong spikes'):
        assert not dispatch.works(cpu, dtype)


def step(model, image):
    """Output and gradients of a training step that keeps bytes."""
    model.zero_grad()
    image = image.clone().requires_grad_()
    with compact_saving.compact_saving():
        out = model(image)
        loss = (out[0] if isinstance(out, tuple) else out).square().mean()
    loss.backward()
    return loss.detach(), image.grad, *(p.grad for p in model.parameters() if p.grad is not None)


def compare_with_plain_functions(model, image, dispatched):
    found = step(model, image)
    of_neurons = {'fire_packed', 'restore_spikes', 'fire_packed_backward'}
    assert {*of_neurons, 'quantize', 'quantize_backward'} == set(dispatched)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, 'find', lambda *args: None)
        expected = step(model, image)
    assert len(found) == len(expected)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    for one, other in zip(found[2:], expected[2:]):  # among them those of steps, which are sums
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6 * other.abs().max().item())


def test_layers_give_the_same(dispatched):
    layers = (
        QuantConv2d(3, 4, 3),
        IELIF(0.25, 0.25),
        QuantConv2d(4, 2, 3),
        nn.BatchNorm2d(2),
        IELIF(rounding='half_even'),
        nn.Conv2d(2, 2, 1),
    )
    compare_with_plain_functions(nn.Sequential(*layers), torch.randn(2, 3, 8, 8), dispatched)


@pytest.mark.slow
def test_a_network_gives_the_same(dispatched):
    arch = dict(family='qsd', widths=(4, 4, 8, 8, 8), depths=(0, 0, 0, 1, 0), num_heads=2)
    model = SpikeDrivenTransformer(arch).eval()  # the statistics of batch norm stay
    compare_with_plain_functions(model, torch.randn(1, 3, 32, 32), dispatched)


def short_forms(layer, inputs):
    """What autograd keeps instead: the bytes, and what is restored from them."""
    registered, seen = compact_saving.CompressedTensors(), []

    def pack(tensor):
        seen.append(registered.pack(tensor))
        return seen[-1]

    with compact_saving._use(registered), torch.autograd.graph.saved_tensors_hooks(pack, registered.unpack):
        out = layer(inputs)
    packed = [entry for entry in seen if isinstance(entry, compact_saving.Packed)]
    return out, [(entry.form.held[0], registered.unpack(entry)) for entry in packed]


class Steps(nn.Module):
    """A neuron over T steps by its kernel if that is found, else by its loop."""

    def __init__(self, neuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, inputs):
        n = self.neuron
        found = functional.integrate_and_fire(
            inputs, n.time_steps, n.threshold, n.max_spike_count, n.decay, n.scale, n.rounding
        )
        return SpikingNeuron.forward(n, inputs) if found is None else found


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize(
    ('neuron', 'kernel'),
    [
        (IELIF(0.25, 0.25), 'fire_packed'),
        (Steps(IELIF(0.5, 0.25, time_steps=2, rounding='half_even')), 'integrate_and_fire'),
    ],
    ids=['T=1', 'T=2'],
)
def test_short_forms_are_the_same(dispatched, neuron, kernel, channels_last):
    inputs = torch.randn(4, 4, 6, 6) * 2
    if channels_last:
        inputs = inputs.to(memory_format=torch.channels_last)
    inputs.requires_grad_()
    layer = nn.Sequential(neuron, QuantConv2d(4, 3, 3))
    out, found = short_forms(layer, inputs)
    restored = ['restore_spikes'] * (kernel == 'fire_packed')
    assert dispatched == [kernel, 'quantize', *restored]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, 'find', lambda *args: None)
        expected_out, expected = short_forms(layer, inputs)
    assert torch.equal(out, expected_out)
    assert len(found) == len(expected) == 2
    for (held, restored), (expected_held, expected_restored) in zip(found, expected):
        assert held.dtype == expected_held.dtype and held.stride() == expected_held.stride()
        assert restored.stride() == expected_restored.stride()
        assert torch.equal(restored, expected_restored)
        if held.dtype is torch.uint8:  # else it is the weight itself
            held, expected_held = held & spiking.INSIDE - 1, expected_held & spiking.INSIDE - 1
        assert torch.equal(held, expected_held)


def test_gradients_of_gradients_take_plain_operations(dispatched):
    membrane = torch.tensor([0.1, 0.3, 2.0, -1.0], requires_grad=True)
    grad = torch.ones(4, requires_grad=True)
    spikes = functional.scaled_spikes(membrane, 0.5, 2, 0.25)
    (first,) = torch.autograd.grad(spikes, membrane, grad, create_graph=True)
    assert dispatched == ['fire']
    assert torch.autograd.grad(first.sum(), grad)[0].tolist() == [0.5, 0.5, 0.0, 0.0]


def test_time_that_no_kernel_walks(dispatched):
    """More steps than a kernel unrolls, counts of more than seven bits, a batch that does not divide."""
    inputs = torch.randn(66, 2)
    assert functional.integrate_and_fire(inputs, 66, 1.0, 4, 1.0, 1.0) is None
    assert functional.integrate_and_fire(inputs, 2, 1.0, 128, 1.0, 1.0) is None
    assert functional.integrate_and_fire(inputs, 4, 1.0, 4, 1.0, 1.0) is None
    assert functional.integrate_and_fire(inputs, 2, 1.0, 4, 1.0, 1.0) is not None
