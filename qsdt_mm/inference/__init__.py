"""From a trained network to what hardware computes: integers, or binary spikes that only add."""

from .comparison import unit_errors
from .conversion import MODES, convert
from .exact import ExactAttention, ExactSynapse, FoldedLayer

__all__ = ['MODES', 'ExactAttention', 'ExactSynapse', 'FoldedLayer', 'convert', 'unit_errors']
