"""Low-bit weights: the LSQ quantizer and the layers that use it."""

from .layers import QuantConv2d, QuantConvTranspose2d, QuantLinear
from .lsq import LSQ, WEIGHT_BITS, LowBitWeight, check_weight_bits, integer_range, lsq_quantize, steps_follow_weights

__all__ = [
    'LSQ',
    'WEIGHT_BITS',
    'LowBitWeight',
    'QuantConv2d',
    'QuantConvTranspose2d',
    'QuantLinear',
    'check_weight_bits',
    'integer_range',
    'lsq_quantize',
    'steps_follow_weights',
]
