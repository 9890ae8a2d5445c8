"""Self-test of the kernels on a device: numbers that a careless division or rounding gets wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qsdt_mm.ops import batch_norm, depthwise, lsq, spiking
from qsdt_mm.ops import weight_bank as plain_bank

from . import batch_norm as kernels
from . import depthwise as sums
from . import lsq as quantizer
from . import neuron, packed, weight_bank


@torch.no_grad()
def differing(device: torch.device, dtype: torch.dtype) -> list[str]:
    """Return the results that differ, on this device, from the plain functions on a CPU."""
    # Up to six thresholds of 0.3, on every boundary of the count, before and behind it.
    membrane = (torch.arange(-40, 240, device='cpu') * 0.0075).to(dtype)
    step = (torch.arange(1, 8, device='cpu') * 0.03).to(dtype)
    constants = 0.3, 4, 0.3, spiking.INSIDE
    kept = spiking.fire(membrane, *constants)[1]
    odd = membrane[:-1]  # so that the last byte holds one value
    _, halves = spiking.fire_packed(odd, 0.3, 4, 0.3)
    many = [membrane.view(7, 40), membrane.view(4, 2, 35)], [-step, None], [(-8, 7), (0, 0)]
    cases = {
        'spikes': (by_either_rule(neuron.fire), by_either_rule(spiking.fire), (membrane, *constants)),
        'gradients': (
            neuron.fire_backward,
            spiking.fire_backward,
            (membrane.flip(0), kept, 0.3, 0.3, spiking.INSIDE),
        ),
        'packed spikes': (
            by_either_rule(packed.fire_packed),
            by_either_rule(spiking.fire_packed),
            (odd, 0.3, 4, 0.3),
        ),
        'restored spikes': (packed.restore_spikes, spiking.restore_spikes, (torch.empty_like(odd), halves, 0.3)),
        'packed gradients': (
            packed.fire_packed_backward,
            spiking.fire_packed_backward,
            (odd.flip(0), halves, torch.empty_like(odd), 0.3, 0.3),
        ),
        'weights': (quantizer.quantize, lsq.quantize, (membrane.view(7, 40), step, -8, 7)),
        'weights of many layers': (
            by_layer(weight_bank.quantize_many),
            by_layer(plain_bank.quantize_many),
            (*many, dtype),
        ),
        'their gradients': (
            of_weights(weight_bank.quantize_many_backward),
            of_weights(plain_bank.quantize_many_backward),
            ([membrane.flip(0).view(7, 40), membrane.view(4, 2, 35)], *many, dtype),
        ),
    }
    wrong = [] if norms_agree(device, dtype) else ['norms']
    wrong += [] if weight_gradients_agree(device, dtype) else ['gradients of depthwise weights']
    for name, (kernel, plain, arguments) in cases.items():
        found = kernel(*(moved(argument, device) for argument in arguments))
        if not all(torch.equal(f.cpu(), p) for f, p in zip(listed(found), listed(plain(*arguments)))):
            wrong.append(name)
    return wrong


def norms_agree(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether the kernels of batch norm give, to rounding, what the plain functions give on a CPU."""
    x = (torch.arange(-96, 96, device='cpu') % 37 * 0.1).to(dtype).view(2, 6, 4, 4)
    close = dict(rtol=1e-3, atol=1e-3) if dtype == torch.float32 else dict(rtol=0.05, atol=0.05)
    found = []
    for where, forward, backward in (
        ('cpu', batch_norm.batch_norm, batch_norm.batch_norm_backward),
        (device, kernels.batch_norm, kernels.batch_norm_backward),
    ):
        first, second = (torch.arange(1.0, 7.0, device=where) * s for s in (0.3, -0.5))
        norms = batch_norm.Norms(*(batch_norm.Norm(w, w + 1, w * 1, w * w, 1e-3, 0.1) for w in (first, second)), first)
        there, keep = x.to(where), torch.tensor([0.0, 1.5], device=where).view(2, 1, 1, 1)
        out, constants = forward(there, norms, there, keep, False)
        of_x, of_channels = backward(there.flip(3), there, constants, norms, keep, False)
        found.append([t.cpu().float() for t in (out, of_x, of_channels[:5], constants.values[:2])])
    return all(torch.allclose(a, b, **close) for a, b in zip(*found))


def weight_gradients_agree(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether the kernel of depthwise weights gives what the plain function gives, and does so again.

    The sums are of small integers over four: exact in any order.
    """
    window = depthwise.Window((2, 3), stride=(1, 2), padding=(1, 2), dilation=(2, 1))
    x = (torch.arange(2 * 2 * 8 * 13, device='cpu') % 7 - 3.0).to(dtype).view(2, 2, 8, 13)
    grad = (torch.arange(2 * 2 * 8 * 8, device='cpu') % 5 * 0.25 - 0.5).to(dtype).view(2, 2, 8, 8)
    expected = depthwise.depthwise_weight_grad(grad, x, window)
    return all(
        torch.equal(sums.depthwise_weight_grad(grad.to(device), there, window).cpu(), expected)
        for order, times in ((torch.contiguous_format, 1), (torch.channels_last, 2))
        for there in [x.to(device).contiguous(memory_format=order)] * times
    )


def by_either_rule(fire: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, ...]]:
    """Run a function that fires under one rule on halves, then under the other."""
    return lambda *arguments: tuple(x for rounding in spiking.ROUNDINGS for x in fire(*arguments, rounding))


def by_layer(quantize_many: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """Split the buffer, between whose parts there are gaps."""
    return lambda weights, *others: tuple(plain_bank.parts_of(quantize_many(weights, *others), weights))


def of_weights(backward: Callable[..., tuple[list, list]]) -> Callable[..., tuple[Tensor, ...]]:
    """Leave out the gradients of steps, which are sums in another order."""
    return lambda *arguments: tuple(backward(*arguments)[0])


def moved(argument: Any, device: torch.device) -> Any:
    """Move a tensor, or those in a list, to a device."""
    if isinstance(argument, list):
        return [moved(item, device) for item in argument]
    return argument.to(device) if isinstance(argument, Tensor) else argument


def listed(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Wrap a single result in a tuple of one."""
    return found if isinstance(found, tuple) else (found,)
