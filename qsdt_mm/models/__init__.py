"""Neurons, low-bit layers, units and backbones; importing it registers them in mmengine's root registries."""

from .backbones import SpikeDrivenTransformer
from .layers import SpikeUnit
from .neurons import IELIF, LIF, ParametricLIF
from .quantization import QuantConv2d, QuantConvTranspose2d, QuantLinear

__all__ = [
    'IELIF',
    'LIF',
    'ParametricLIF',
    'QuantConv2d',
    'QuantConvTranspose2d',
    'QuantLinear',
    'SpikeDrivenTransformer',
    'SpikeUnit',
]
