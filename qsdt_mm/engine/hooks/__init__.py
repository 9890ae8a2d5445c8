"""Hooks for ``default_hooks``: exact resuming, whole checkpoints, an early stop when values blow up, figures."""

from ..amp import CpuAmpOptimWrapper
from ..storage import AtomicLocalBackend
from ..sync_norm import CpuDistributedDataParallel
from .checkpoint import SafeCheckpointHook
from .figures import LearningCurvesHook, PredictionGridHook
from .labels import LabelRangeHook
from .non_finite import NonFiniteGuardHook
from .reseed import ReseedHook, seed_worker

__all__ = [
    'AtomicLocalBackend',
    'CpuDistributedDataParallel',
    'CpuAmpOptimWrapper',
    'LabelRangeHook',
    'LearningCurvesHook',
    'NonFiniteGuardHook',
    'PredictionGridHook',
    'ReseedHook',
    'SafeCheckpointHook',
    'seed_worker',
]
