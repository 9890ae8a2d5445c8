"""The neuron that keeps half a byte of each count, beside the one that keeps bytes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from qsdt_mm.models.neurons import functional
from qsdt_mm.ops import compact_saving, spiking


def fired(membrane, grad, compact, *constants):
    """Spikes, what two products with them give, and the gradients."""
    membrane = membrane.detach().requires_grad_()
    weight = torch.ones((), dtype=membrane.dtype).requires_grad_()
    with compact_saving.compact_saving() if compact else compact_saving.plain_saving():
        spikes = functional.scaled_spikes(membrane, *constants)
        out = spikes * weight + (spikes + 1) * weight.square()
    return spikes.detach(), *torch.autograd.grad(out, (membrane, weight), grad)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    threshold=st.sampled_from([1.0, 0.5, 0.3, 1.7]),
    max_spike_count=st.integers(1, 7),
    scale=st.sampled_from([1.0, 0.25, 0.3]),
    rounding=st.sampled_from(spiking.ROUNDINGS),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    turned=st.booleans(),
    piece=st.sampled_from([4, 2**18]),
    seed=st.integers(0, 1000),
)
def test_as_with_bytes(shape, threshold, max_spike_count, scale, rounding, dtype, turned, piece, seed):
    source = torch.Generator().manual_seed(seed)
    membrane = (max_spike_count * threshold * torch.randn(shape, generator=source)).to(dtype)
    grad = torch.randn(shape, generator=source).to(dtype)
    if turned:
        membrane = membrane.mT if membrane.dim() > 1 else membrane
        grad = grad.mT if grad.dim() > 1 else grad
    constants = threshold, max_spike_count, scale, rounding
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spiking, 'PIECE', piece)
        found = fired(membrane, grad, True, *constants)
    expected = fired(membrane, grad, False, *constants)
    assert torch.equal(found[0], expected[0]) and found[0].stride() == expected[0].stride()
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(found[2], expected[2])  # a sum, maybe in another order


def test_tensors_without_values():
    """Those of the meta device; fake ones, as of whoever plans memory, are no business of half bytes."""
    membrane = torch.empty(3, 5, device='meta', requires_grad=True)
    with compact_saving.compact_saving():
        spikes = functional.scaled_spikes(membrane, 1.0, 4, 0.25)
    (grad,) = torch.autograd.grad((spikes * spikes).sum(), membrane)
    assert grad.is_meta and grad.shape == spikes.shape == (3, 5)
    with FakeTensorMode():
        fake = torch.empty(3, 5, requires_grad=True)
        with compact_saving.compact_saving():
            spikes = functional.scaled_spikes(fake, 0.3, 4, 0.25)
    assert isinstance(spikes, FakeTensor) and spikes.grad_fn.name() == '_SpikeCountBackward'


@pytest.mark.parametrize('max_spike_count', [7, 8])
def test_who_keeps_half_a_byte(max_spike_count):
    with compact_saving.compact_saving():
        node = functional.scaled_spikes(torch.zeros(6, requires_grad=True), 1.0, max_spike_count, 1.0).grad_fn
    assert node.name() == ('_PackedSpikeCountBackward' if max_spike_count == 7 else '_SpikeCountBackward')
    assert [kept.numel() for kept in node.saved_tensors] == [3 if max_spike_count == 7 else 6]
