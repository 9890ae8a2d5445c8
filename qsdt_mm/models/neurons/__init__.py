"""Spiking neurons: pure functions first, thin modules second."""

from .functional import binary_spike, integrate_and_fire_step, lif_step, parametric_lif_step, spike_count
from .modules import IELIF, LIF, ParametricLIF, SpikingNeuron

__all__ = [
    'IELIF',
    'LIF',
    'ParametricLIF',
    'SpikingNeuron',
    'binary_spike',
    'integrate_and_fire_step',
    'lif_step',
    'parametric_lif_step',
    'spike_count',
]
