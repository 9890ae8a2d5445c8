"""Necks for mmseg."""

from mmseg.models.necks import FPN

from qsdt_mm.models.layers.spiking import SpikingMixin, UnitsDraw


class SpikeFPN(UnitsDraw, SpikingMixin, FPN):
    """mmseg's FPN with a neuron before each convolution: the pyramid adds membrane potentials.

    Args: those of ``mmseg.FPN``, and ``neuron`` (a spike is worth 1/4), ``max_spike_count``, ``weight_bits``.

    Source: design of SFA (arXiv 2411.16061), segmentation.
    """

    NEURON = dict(type='IELIF', threshold=1.0, scale=0.25, rounding='half_even')
