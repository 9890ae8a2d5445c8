"""Low-bit weights: the LSQ quantizer and the layers that use it."""

from qsdt_mm.compat.renamed import refuse_old_names

from .layers import QuantConv2d, QuantConvTranspose2d, QuantLinear, low_bit
from .lsq import LSQ, QuantWeightMixin, lsq_quantize, steps_follow_weights
from .weight import WEIGHT_BITS, QuantizedWeight, check_weight_bits, quant_range, quantize_symmetrically

__all__ = [
    'LSQ',
    'WEIGHT_BITS',
    'QuantWeightMixin',
    'QuantConv2d',
    'QuantConvTranspose2d',
    'QuantLinear',
    'QuantizedWeight',
    'check_weight_bits',
    'quant_range',
    'low_bit',
    'lsq_quantize',
    'quantize_symmetrically',
    'steps_follow_weights',
]

__getattr__ = refuse_old_names(__name__, 'LowBitWeight', 'integer_range')
