"""The unit and the layers built from it: synapses, attention, blocks."""

from .attention import SpikeDrivenSelfAttention, linear_attention
from .blocks import Block, MembraneShortcut
from .synapses import BNAndPad, DepthwiseSeparableConv, PointwiseChain, RepConvBN
from .unit import SpikeUnit, UnitFactory, layers_of, layers_outside_units, make_neuron, named_units

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
    'layers_of',
    'layers_outside_units',
    'linear_attention',
    'make_neuron',
    'named_units',
]
