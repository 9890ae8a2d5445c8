"""Error of a converted network against the trained one, unit by unit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from qsdt_mm.models.layers import SpikeUnit, named_units


@torch.no_grad()
def unit_errors(model: nn.Module, exact: nn.Module, run: Callable[[nn.Module], Any]) -> dict[str, float]:
    """Measure each unit's relative error in a converted network, given the trained network's own spikes.

    ``max |exact - float| / max |float|`` of a unit's membrane potentials, the largest over all calls.

    Args:
        model: the trained network, in evaluation mode.
        exact: what ``convert`` made of it.
        run: passes images through ``model``.
    """
    errors: dict[str, float] = {}
    units = dict(named_units(model))

    def watch(name: str, unit: SpikeUnit):
        drive = unit.drive

        def watched(spikes: Tensor) -> Tensor:
            membrane = drive(spikes)
            count = spikes if unit.neuron is None else torch.round(spikes / unit.neuron.scale)
            other = exact.get_submodule(name).drive(count)
            error = ((other - membrane).abs().max() / membrane.abs().max().clamp_min(1e-30)).item()
            errors[name] = max(error, errors.get(name, 0.0))
            return membrane

        return watched

    with ExitStack() as stack:
        for name, unit in units.items():
            unit.drive = watch(name, unit)  # on the object; the class's own comes back when it is deleted
            stack.callback(delattr, unit, 'drive')
        run(model)
    return errors
