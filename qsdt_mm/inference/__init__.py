"""From a trained network to what hardware computes: integers, or binary spikes that only add."""

from .conversion import MODES, convert
from .exact import ExactAttention, ExactSynapse, FoldedLayer
from .folding import fold_norms

__all__ = [
    'MODES',
    'ExactAttention',
    'ExactSynapse',
    'FoldedLayer',
    'convert',
    'fold_norms',
]
