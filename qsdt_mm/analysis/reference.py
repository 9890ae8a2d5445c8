"""The plain path: what the fast paths must equal, written as autograd composes it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from unittest import mock

import torch
from torch import Tensor

from qsdt_mm.models.backbones import spike_driven_transformer
from qsdt_mm.models.layers import norms, spiking, synapses
from qsdt_mm.models.neurons import functional, modules
from qsdt_mm.models.quantization import lsq
from qsdt_mm.ops import layout


def spike_count(
    membrane: Tensor, threshold: float = 1.0, max_spike_count: int = 4, rounding: str = 'half_up'
) -> Tensor:
    """Compute :func:`qsdt_mm.models.neurons.spike_count` with a straight-through gradient made of detached parts."""
    ratio = membrane / threshold
    rounded = ratio.round() if rounding == 'half_even' else (ratio + 0.5).floor()
    count = rounded.clamp(0, max_spike_count).detach()
    # Not by clamp, whose gradient at the bounds differs from version to version.
    inside = (membrane >= 0) & (membrane <= max_spike_count * threshold)
    return count + torch.where(inside, ratio - ratio.detach(), 0)


def scaled_spikes(
    membrane: Tensor, threshold: float, max_spike_count: int, scale: float, rounding: str = 'half_up'
) -> Tensor:
    """Compute ``scale * spike_count(...)`` of the same arguments."""
    return spike_count(membrane, threshold, max_spike_count, rounding) * scale


def lsq_quantize(weight: Tensor, step: Tensor, bits: int) -> Tensor:
    """Compute :func:`qsdt_mm.models.quantization.lsq_quantize` with a straight-through gradient of detached parts."""
    low, high = lsq.quant_range(bits)
    step = step.view(-1, *[1] * (weight.dim() - 1))
    step = step.detach() + (step - step.detach()) / math.sqrt(weight.numel() * high)
    ratio = weight / step
    integers = ratio.clamp(low, high).round().detach()
    inside = (ratio >= low) & (ratio <= high)
    return (integers + torch.where(inside, ratio - ratio.detach(), 0)) * step


@contextmanager
def plain_path() -> Iterator[None]:
    """Let networks compute by plain operations within the context: no function of ours for the backward pass, no short
    forms of what is kept for it, no layout of our own.

    For tests and benchmarks; not for several threads.
    """
    with ExitStack() as stack:
        for owner, name, plain in (
            (functional, 'spike_count', spike_count),
            (modules, 'spike_count', spike_count),
            (modules, 'scaled_spikes', scaled_spikes),
            (lsq, 'lsq_quantize', lsq_quantize),
            (spike_driven_transformer, 'compact_saving', nullcontext),
            (spike_driven_transformer, 'counted_at_once', nullcontext),
            (norms, 'can_fuse', lambda *args: False),
            (synapses, 'can_fuse', lambda *args: False),
            (spike_driven_transformer, 'quantized_together', lambda stage: nullcontext()),
            (spiking, 'quantized_together', lambda part: nullcontext()),
            (layout, 'to_preferred_memory_format', lambda feature: feature),
            (layout, 'is_faster_in_float32', lambda *args: False),
        ):
            stack.enter_context(mock.patch.object(owner, name, plain))
        yield
