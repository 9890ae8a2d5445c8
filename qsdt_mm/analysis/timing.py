"""Time and memory that a network takes, and their distance from the limits of the machine."""

from __future__ import annotations

import ctypes
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qsdt_mm.models.layers.attention import LinearAttention

from .operations import attention_macs, dense_macs

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def tensors_in(outputs: Any) -> Iterator[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        yield from tensors_in(list(outputs.values()))
    elif isinstance(outputs, (tuple, list)):
        for item in outputs:
            yield from tensors_in(item)


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def seconds_of(runs: dict[str, Callable[[], Any]], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Time functions that take turns, so that what else the machine does falls on all of them.

    Args:
        runs: functions by name; each has been called before.
        repeats: how often each is called.
        device: where they compute.

    Returns:
        Seconds of each call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            synchronize(device)
            start = time.perf_counter()
            run()
            synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median, the fastest and the slowest."""
    return dict(median=statistics.median(seconds), fastest=min(seconds), slowest=max(seconds))


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int | None:
    """Return the most memory in use during a call, beyond that in use before; None where it is not counted.

    On a GPU what torch allocated, on Linux what the process occupied.
    """
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    status = Path('/proc/self/status')
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is free is given back, or it would hide the peak
        Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
        before = _kilobytes(status, 'VmRSS')
        run()
        return 1024 * max(_kilobytes(status, 'VmHWM') - before, 0)
    except (OSError, AttributeError):
        return None


def _kilobytes(status: Path, name: str) -> int:
    return int(re.search(rf'{name}:\s+(\d+) kB', status.read_text())[1])


@contextmanager
def _counting(model: nn.Module, counts: dict[str, int]) -> Iterator[None]:
    def layer(module: nn.Module, args: tuple, output: Tensor) -> None:
        counts['macs'] += dense_macs(module, args[0], output)
        counts['values'] += args[0].numel() + output.numel()

    def attention(module: nn.Module, args: tuple, output: Tensor) -> None:
        counts['macs'] += attention_macs(*args)
        counts['values'] += sum(x.numel() for x in args) + output.numel()

    hooks = [
        module.register_forward_hook(attention if isinstance(module, LinearAttention) else layer)
        for module in model.modules()
        if isinstance(module, (*LAYERS, LinearAttention))
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def work(model: nn.Module, run: Callable[[], Any]) -> dict[str, int]:
    """Count the least work of a forward pass: dense multiply-accumulates, and values that layers read and write."""
    counts = dict(macs=0, values=0)
    with _counting(model, counts), torch.no_grad():
        run()
    return counts


def machine_rates(device: torch.device, side: int = 2048, repeats: int = 5) -> dict[str, float]:
    """Measure the machine at its best: float32 multiply-accumulates a second, bytes read and written a second."""
    left, right = torch.rand(side, side, device=device), torch.rand(side, side, device=device)
    source = torch.rand(2**26, device=device)
    target = torch.empty_like(source)
    runs = dict(product=lambda: left @ right, copy=lambda: target.copy_(source))
    for run in runs.values():
        run()
    seconds = seconds_of(runs, repeats, device)
    return dict(
        macs_per_second=side**3 / min(seconds['product']),
        bytes_per_second=2 * source.numel() * source.element_size() / min(seconds['copy']),
    )


def floor_seconds(counts: dict[str, int], rates: dict[str, float], training: bool) -> float:
    """Return the time below which the work cannot be done in float32, be it bound by arithmetic or by memory.

    A training step does three times the forward pass: itself, and the gradients of inputs and of weights.
    """
    passes = 3 if training else 1
    return passes * max(counts['macs'] / rates['macs_per_second'], 4 * counts['values'] / rates['bytes_per_second'])
