"""From a trained network to what hardware computes: integers, or binary spikes that only add."""

from qsdt_mm.compat.renamed import refuse_old_names

from .conversion import MODES, convert
from .exact import ExactAttention, ExactSynapse, FoldedLayer
from .folding import fold_norms
from .graphs import graphed
from .slots import CODINGS

__all__ = [
    'CODINGS',
    'MODES',
    'ExactAttention',
    'ExactSynapse',
    'FoldedLayer',
    'convert',
    'fold_norms',
    'graphed',
]

__getattr__ = refuse_old_names(__name__, 'agreement', 'answers', 'same_bits', 'unit_errors')
