"""From a trained network to what hardware computes: integers, or binary spikes that only add."""

from qsdt_mm.analysis.agreement import agreement, answers, same_bits
from qsdt_mm.analysis.unit_errors import unit_errors

from .conversion import MODES, convert
from .exact import ExactAttention, ExactSynapse, FoldedLayer
from .folding import fold_norms

__all__ = [
    'MODES',
    'ExactAttention',
    'ExactSynapse',
    'FoldedLayer',
    'agreement',
    'answers',
    'convert',
    'fold_norms',
    'same_bits',
    'unit_errors',
]
