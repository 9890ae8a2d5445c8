"""Hooks for ``default_hooks``: exact resuming, whole checkpoints, an early stop when values blow up, figures."""

from qsdt_mm.engine.cpu_amp import CpuAmpOptimWrapper
from qsdt_mm.engine.cpu_distributed import CpuDistributedDataParallel
from qsdt_mm.fileio.atomic import AtomicLocalBackend

from .absent_classes import AbsentClassesHook
from .checkpoint import SafeCheckpointHook
from .classes import ClassResultsHook
from .energy import EnergyHook
from .figures import LearningCurvesHook, PredictionGridHook
from .firing import FiringRateHook
from .labels import LabelRangeHook
from .non_finite import NonFiniteGuardHook
from .outcome import OutcomeHook
from .reconstruction import ReconstructionHook
from .reseed import ReseedHook, seed_worker
from .run_state import RunStateHook

__all__ = [
    'AbsentClassesHook',
    'AtomicLocalBackend',
    'ClassResultsHook',
    'EnergyHook',
    'FiringRateHook',
    'ReconstructionHook',
    'CpuDistributedDataParallel',
    'CpuAmpOptimWrapper',
    'LabelRangeHook',
    'LearningCurvesHook',
    'NonFiniteGuardHook',
    'OutcomeHook',
    'PredictionGridHook',
    'ReseedHook',
    'RunStateHook',
    'SafeCheckpointHook',
    'seed_worker',
]
