"""A unit on membranes that are multiples of half a threshold: count, slots, both exact modes against fractions."""

import math
from fractions import Fraction

import torch
from torch import nn
from trained_networks import exact_forms

from qsdt_mm import IELIF
from qsdt_mm.inference import CODINGS
from qsdt_mm.inference.slots import fired_slots, slots
from qsdt_mm.models.layers import UnitFactory
from qsdt_mm.models.neurons import integrate_and_fire_step


def exact_counts(inputs, threshold, max_spike_count, rounding):
    """Counts of one neuron over time, in rational numbers, of which Python rounds halves to even."""
    left, counts = Fraction(0), []
    for value in inputs:
        ratio = (left + Fraction(value)) / Fraction(threshold)
        count = round(ratio) if rounding == 'half_even' else math.floor(ratio + Fraction(1, 2))
        counts.append(min(max(count, 0), max_spike_count))
        left = (ratio - counts[-1]) * Fraction(threshold)
    return counts


def check_halves(rounding, max_spike_count, steps, threshold, dtype, seed):
    """Everything that fires says the same; all numbers fit the dtype without rounding."""
    torch.manual_seed(seed)
    shape = steps, 2, 6, 3, 3
    inputs = (torch.randint(-3, 2 * max_spike_count + 4, shape) * threshold / 2).to(dtype)
    series = inputs.flatten(1).T.tolist()
    counts = torch.tensor([exact_counts(x, threshold, max_spike_count, rounding) for x in series]).T.reshape(shape)
    counts = counts.flatten(0, 1).to(dtype)

    factory = UnitFactory(dict(type='IELIF', threshold=threshold, rounding=rounding), max_spike_count, steps, 8)
    unit = factory.conv_unit(6, 4, 3).to(dtype).eval()
    folded = inputs.flatten(0, 1)
    with torch.no_grad():
        assert torch.equal(unit.neuron.count(folded), counts)
        assert torch.equal(unit.neuron(folded), counts * unit.neuron.scale)

        carried = None
        for current, count in zip(inputs, counts.unflatten(0, (steps, -1))):
            membrane = current if carried is None else carried + current
            for coding in CODINGS:
                fired = fired_slots(membrane, threshold, max_spike_count, rounding, coding)
                pairs = zip(fired, slots(count, max_spike_count, coding), strict=True)
                assert all(torch.equal(f, s) for f, s in pairs)
            _, carried = integrate_and_fire_step(current, carried, threshold, max_spike_count, rounding=rounding)

        integer, *spiking = exact_forms(nn.Sequential(unit)).values()
        assert all(torch.equal(form[0].fire(folded), counts) for form in (integer, *spiking))
        found = integer(folded)
        assert all(torch.equal(found, form(folded)) for form in spiking)
        assert torch.equal(found, integer[0].drive(counts))


def rules(model):
    """The rules by which a network's neurons round."""
    return {m.rounding for m in model.modules() if isinstance(m, IELIF)}
