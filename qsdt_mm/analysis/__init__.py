"""What a network does with its spikes: which synapses they drive, how many operations that takes, and the energy."""

from .audit import SynapseAudit, audit
from .energy import PRESETS, EnergyReport, measure_energy
from .firing import NeuronActivity

__all__ = ['PRESETS', 'EnergyReport', 'NeuronActivity', 'SynapseAudit', 'audit', 'measure_energy']
