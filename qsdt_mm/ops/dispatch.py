"""Choice of kernels for tensors, and the layouts that kernels take."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
from mmengine.logging import print_log
from torch import Tensor

from qsdt_mm.compat.compiling import is_compiling

from .layout import PLAIN

KERNEL_MODULES = {
    'fire': 'neuron',
    'fire_backward': 'neuron',
    'fire_packed': 'packed',
    'fire_packed_backward': 'packed',
    'restore_spikes': 'packed',
    'integrate_and_fire': 'time_steps',
    'batch_norm': 'batch_norm',
    'batch_norm_backward': 'batch_norm',
    'batch_norm_values': 'batch_norm',
    'depthwise_weight_grad': 'depthwise',
    'quantize': 'lsq',
    'quantize_backward': 'lsq',
    'quantize_many': 'weight_bank',
    'quantize_many_backward': 'weight_bank',
}
"""Module of each kernel's launch function."""
PLAIN_MODULES = {
    'fire': 'spiking',
    'fire_backward': 'spiking',
    'fire_packed': 'spiking',
    'fire_packed_backward': 'spiking',
    'restore_spikes': 'spiking',
    'batch_norm': 'batch_norm',
    'batch_norm_backward': 'batch_norm',
    'batch_norm_values': 'batch_norm',
    'depthwise_weight_grad': 'depthwise',
    'quantize': 'lsq',
    'quantize_backward': 'lsq',
    'quantize_many': 'weight_bank',
    'quantize_many_backward': 'weight_bank',
}
"""Module of each kernel's plain twin, a function of the same name and arguments."""
LAUNCHES: dict[str, int] = {'batch_norm': 2, 'batch_norm_backward': 2}
"""Number of launches that a kernel's function makes, where it is not one."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# Whether kernels give the right values, by device and dtype; found out at the first tensor.
_verdicts: dict[tuple[torch.device, torch.dtype], bool] = {}
_noted: set[str] = set()


def find(name: str, *tensors: Tensor) -> Callable | None:
    """Return the launch function ``name`` if it serves these tensors, else None: then the plain function does.

    Served are plain tensors of one dtype among :data:`DTYPES`, on one CUDA device where Triton works, unless traced.
    """
    # The compiler fuses the plain functions by itself, and cannot look into a launch.
    if is_compiling() or not serves(*tensors):
        return None
    return getattr(import_module(f'{__package__}.triton.{KERNEL_MODULES[name]}'), name)


def note_plain(what: str, *tensors: Tensor) -> None:
    """Log once, where kernels serve such tensors, that ``what`` has none."""
    if what not in _noted and not is_compiling() and serves(*tensors):
        _noted.add(what)
        print_log(f'{what} has no Triton kernel: plain operations run', 'current')


def serves(first: Tensor, *others: Tensor) -> bool:
    """Return whether kernels take these tensors."""
    if first.device.type != 'cuda' or torch.jit.is_tracing() or not takes(first, *others):
        return False
    return works(first.device, first.dtype)


def takes(first: Tensor, *others: Tensor) -> bool:
    """Return whether kernels take tensors like these, were they on a device where kernels run."""
    if first.dtype not in DTYPES:
        return False
    for tensor in (first, *others):
        if type(tensor) not in PLAIN or tensor.numel() == 0:
            return False
        if tensor.device != first.device or tensor.dtype != first.dtype:
            return False
    return True


def works(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether Triton is here, compiles for this device, and divides and rounds there as a CPU does."""
    key = device, dtype
    if key not in _verdicts:
        _verdicts[key] = find_spec('triton') is not None and _passes_self_test(device, dtype)
    return _verdicts[key]


def _passes_self_test(device: torch.device, dtype: torch.dtype) -> bool:
    # Triton needs a compiler and a recent enough device and driver: only a launch tells.
    try:
        from .triton.self_test import differing

        wrong = differing(device, dtype)
        reason = f'wrong {", ".join(wrong)}' if wrong else ''
    except Exception as error:  # whatever Triton raises, the plain functions are right
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
    if reason:
        warnings.warn(
            f'no Triton kernels for {dtype} on {device}, plain operations run instead: {reason}', stacklevel=2
        )
    return not reason
