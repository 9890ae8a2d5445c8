"""Spikes of a network: the synapses that they drive, the operations that this takes, and the energy."""

from .audit import SynapseAudit, audit
from .energy import PRESETS, EnergyReport, measure_energy
from .firing import NeuronActivity

__all__ = ['PRESETS', 'EnergyReport', 'NeuronActivity', 'SynapseAudit', 'audit', 'measure_energy']
