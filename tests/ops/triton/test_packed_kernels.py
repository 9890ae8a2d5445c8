"""Kernels that keep half a byte of a spike count, run by Triton's interpreter, against the plain functions on a CPU."""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from triton_values import edges, same

from qsdt_mm.models.neurons import functional
from qsdt_mm.ops import compact_saving, dispatch, spiking

PROPERTY = settings(max_examples=15, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])
CONSTANTS = st.floats(0.01, 5)


@PROPERTY
@given(
    threshold=CONSTANTS,
    max_spike_count=st.integers(1, 7),
    scale=CONSTANTS,
    dtype=DTYPES,
    rounding=st.sampled_from(spiking.ROUNDINGS),
    left_out=st.integers(0, 1),
)
def test_spikes_halves_and_gradients(interpreted, threshold, max_spike_count, scale, dtype, rounding, left_out):
    membrane = edges(threshold, max_spike_count, dtype)[left_out:]
    constants = threshold, max_spike_count, scale
    spikes, packed = interpreted.packed.fire_packed(membrane, *constants, rounding)
    expected, expected_packed = spiking.fire_packed(membrane, *constants, rounding)
    same(spikes, expected)
    assert torch.equal(packed, expected_packed) and packed.numel() == (membrane.numel() + 1) // 2
    # The halves are those of the function that keeps bytes.
    counts, code = spiking.fire(membrane, *constants, spiking.INSIDE_HALF, rounding)
    same(expected, counts)
    assert torch.equal(expected_packed, compact_saving.pack_nibbles(code))
    finite = ~membrane.isnan()  # of not-a-number half a byte holds nothing
    restored = interpreted.packed.restore_spikes(torch.empty_like(membrane), packed, scale)
    same(restored[finite], expected[finite])
    same(restored, spiking.restore_spikes(torch.empty_like(membrane), packed, scale))
    grad = membrane.roll(3)
    found = interpreted.packed.fire_packed_backward(grad, packed, torch.empty_like(membrane), threshold, scale)
    same(found, spiking.fire_packed_backward(grad, packed, torch.empty_like(membrane), threshold, scale))
    same(found, spiking.fire_backward(grad, code, threshold, scale, spiking.INSIDE_HALF))


LAYOUTS = {
    'more than one block': lambda x: x,
    'channels_last': lambda x: x.to(memory_format=torch.channels_last),
    'swapped within': lambda x: x.mT,
    'with gaps': lambda x: x[:, :, ::2],
    'one value': lambda x: x[:1, :1, :1, :1],
    'in the middle of its memory': lambda x: x[1:],
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_layouts(interpreted, layout):
    membrane = LAYOUTS[layout](torch.randn(3, 7, 13, 15) * 3)
    spikes, packed = interpreted.packed.fire_packed(membrane, 0.3, 4, 0.3)
    expected, expected_packed = spiking.fire_packed(membrane, 0.3, 4, 0.3)
    assert torch.equal(spikes, expected) and torch.equal(packed, expected_packed)
    assert spikes.stride() == expected.stride()
    restored = interpreted.packed.restore_spikes(torch.empty_like(spikes), packed, 0.3)
    assert torch.equal(restored, spikes) and restored.stride() == spikes.stride()
    for grad in (torch.randn(membrane.shape), torch.ones(()).expand_as(membrane)):
        found = interpreted.packed.fire_packed_backward(grad, packed, torch.empty_like(spikes), 0.3, 0.3)
        assert torch.equal(found, spiking.fire_packed_backward(grad, packed, torch.empty_like(spikes), 0.3, 0.3))


@pytest.mark.parametrize('values', [1, 6, 7, 64, 65, 130])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
def test_pieces_are_the_whole(monkeypatch, values, dtype):
    membrane, grad = (torch.randn(values).to(dtype) * 3 for _ in range(2))

    def run():
        spikes, packed = spiking.fire_packed(membrane, 0.7, 5, 0.3)
        back = spiking.fire_packed_backward(grad, packed, torch.empty_like(grad), 0.7, 0.3)
        return spikes, packed, back, spiking.restore_spikes(torch.empty_like(spikes), packed, 0.3)

    whole = run()
    monkeypatch.setattr(spiking, 'PIECE', 16)
    assert all(torch.equal(one, other) for one, other in zip(whole, run()))
    assert torch.equal(whole[0], whole[3])


def test_the_self_test_finds_halves_that_are_swapped(interpreted, monkeypatch):
    fire = interpreted.packed.fire_packed

    def swapped(*arguments):
        spikes, packed = fire(*arguments)
        return spikes, packed >> 4 | packed << 4

    monkeypatch.setattr(interpreted.packed, 'fire_packed', swapped)
    assert interpreted.self_test.differing(torch.device('cpu'), torch.float32) == ['packed spikes']


def test_launches_of_a_neuron_and_three_layers(dispatched):
    """One forward, one for its gradient, one that restores the spikes for all three."""
    weights = [torch.randn(3, 4, requires_grad=True) for _ in range(3)]
    membrane = torch.randn(5, 4, requires_grad=True)
    with compact_saving.compact_saving():
        spikes = functional.scaled_spikes(membrane, 1.0, 4, 0.25)
        loss = sum((spikes @ weight.T).square().sum() for weight in weights)
    loss.backward()
    assert dispatched == ['fire_packed', 'restore_spikes', 'fire_packed_backward']


def test_doubles_have_no_kernel():
    assert dispatch.find('fire_packed', torch.zeros(2, dtype=torch.float64)) is None
