"""A trial of the kernels on a device: what they give for numbers that a careless division or rounding gets wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from qsdt_mm.models.neurons import functional
from qsdt_mm.models.quantization import lsq

from . import neuron, quantizer


def differing(device: torch.device) -> list[str]:
    """Names of the results that differ, on this device, from those of the plain functions on a CPU."""
    wrong = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        # Up to six thresholds of 0.3, in steps that land on each boundary, before and behind it.
        membrane = (torch.arange(-40, 240) * 0.0075).to(dtype)
        grad = membrane.flip(0)
        kept = functional._fire(membrane, 0.3, 4, 0.3, functional.INSIDE)[1]
        weight, step = membrane.view(7, 40), torch.arange(1, 8).mul(0.03).to(dtype)
        cases = {
            'spikes': (neuron.fire, functional._fire, (membrane, 0.3, 4, 0.3, functional.INSIDE)),
            'gradients': (
                neuron.fire_backward,
                functional._fire_backward,
                (grad, kept, 0.3, 0.3, functional.INSIDE),
            ),
            'weights': (quantizer.quantize, lsq._quantize, (weight, step, -8, 7, True)),
        }
        for name, (kernel, plain, arguments) in cases.items():
            found = kernel(*(a.to(device) if isinstance(a, Tensor) else a for a in arguments))
            if not all(torch.equal(f.cpu(), p) for f, p in zip(_tuple(found), _tuple(plain(*arguments)))):
                wrong.append(f'{name} in {dtype}')
    return wrong


def _tuple(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)
