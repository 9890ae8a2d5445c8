"""Halves: the count of training, the integers and the slots of inference agree exactly, under either rule."""

import pytest
import torch
from halves import check_halves
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from trained_networks import trained

from qsdt_mm import IELIF
from qsdt_mm.inference import CODINGS, convert, fold_norms
from qsdt_mm.inference.slots import fired_slots, slots
from qsdt_mm.models.neurons import spike_count
from qsdt_mm.ops.spiking import ROUNDINGS


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    rounding=st.sampled_from(ROUNDINGS),
    max_spike_count=st.integers(1, 9),
    steps=st.integers(1, 4),
    threshold=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 9999),
)
def test_spike_is_integer_is_count(rounding, max_spike_count, steps, threshold, dtype, seed):
    check_halves(rounding, max_spike_count, steps, threshold, dtype, seed)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    membrane=st.lists(st.floats(-4, 12, width=32), min_size=1, max_size=20),
    threshold=st.floats(0.0625, 4, width=32),
    max_spike_count=st.integers(1, 9),
    rounding=st.sampled_from(ROUNDINGS),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_slots_of_any_membrane_are_those_of_its_count(membrane, threshold, max_spike_count, rounding, dtype):
    """Those next to a half among them, whose sum with 0.5 is rounded."""
    halves = torch.tensor([(d - 0.5) * threshold for d in range(1, max_spike_count + 1)], dtype=dtype)
    sides = [torch.nextafter(halves, torch.full_like(halves, end)) for end in (-9.0, 99.0)]
    membrane = torch.cat([torch.tensor(membrane, dtype=dtype), halves, *sides])
    count = spike_count(membrane, threshold, max_spike_count, rounding)
    for coding in CODINGS:
        fired = fired_slots(membrane, threshold, max_spike_count, rounding, coding)
        assert all(torch.equal(f, s) for f, s in zip(fired, slots(count, max_spike_count, coding), strict=True))


def test_slots_compare_strictly_where_d_is_odd():
    membrane = torch.tensor([0.5, 1.5, 2.5, 3.5])
    assert torch.stack(list(fired_slots(membrane, 1.0, 4, 'half_even'))).sum(0).tolist() == [0, 2, 2, 4]
    assert torch.stack(list(fired_slots(membrane, 1.0, 4, 'half_up'))).sum(0).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize('rounding', ROUNDINGS)
@pytest.mark.parametrize('options', [{}, dict(time_steps=3), dict(max_spike_count=3)], ids=str)
def test_views_of_a_network_keep_the_rule(rounding, options):
    model = trained('espike', weight_bits=4, neuron=dict(rounding=rounding), **options).eval()
    views = [convert(model, 'integer'), convert(model, 'spike'), fold_norms(model)]
    for view in views:
        assert {m.rounding for m in view.modules() if isinstance(m, IELIF)} == {rounding}
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert all(torch.equal(i, s) for i, s in zip(views[0](image), views[1](image)))


class Ones(nn.Module):
    """A membrane of halves whatever comes in."""

    def forward(self, image):
        return torch.full((len(image), 4, 3, 3), 0.5)


@pytest.mark.parametrize(('rounding', 'rate'), [('half_up', 0.25), ('half_even', 0.0)])
def test_energy_counts_what_fires(rounding, rate):
    from qsdt_mm.analysis import measure_energy
    from qsdt_mm.models.layers import UnitFactory

    unit = UnitFactory(dict(type='IELIF', rounding=rounding), 4, 1, 4).conv_unit(4, 2).eval()
    report = measure_energy(nn.Sequential(Ones(), unit), [torch.zeros(2, 1, 3, 3)])
    assert report.as_dict()['total']['firing_rate'] == rate
    assert report.as_dict()['total']['sops'] == (4 * 9 * 2 if rate else 0)
