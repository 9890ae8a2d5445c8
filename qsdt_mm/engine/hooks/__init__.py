"""Hooks for ``default_hooks``: exact resuming, whole checkpoints, and an early stop when values blow up."""

from ..amp import CpuAmpOptimWrapper
from ..storage import AtomicLocalBackend
from .checkpoint import SafeCheckpointHook
from .non_finite import NonFiniteGuardHook
from .reseed import ReseedHook, seed_worker

__all__ = [
    'AtomicLocalBackend',
    'CpuAmpOptimWrapper',
    'NonFiniteGuardHook',
    'ReseedHook',
    'SafeCheckpointHook',
    'seed_worker',
]
