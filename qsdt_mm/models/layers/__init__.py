"""The unit and what is built from it: synapses, attention, blocks."""

from .attention import SpikeDrivenSelfAttention, linear_attention
from .blocks import Block, MembraneShortcut
from .synapses import BNAndPad, DepthwiseSeparableConv, PointwiseChain, RepConvBN
from .unit import SpikeUnit, UnitFactory, make_neuron

__all__ = [
    'BNAndPad',
    'Block',
    'DepthwiseSeparableConv',
    'MembraneShortcut',
    'PointwiseChain',
    'RepConvBN',
    'SpikeDrivenSelfAttention',
    'SpikeUnit',
    'UnitFactory',
    'linear_attention',
    'make_neuron',
]
