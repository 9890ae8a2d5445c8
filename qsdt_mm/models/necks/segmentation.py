"""Necks for mmseg."""

from mmseg.models.necks import FPN

from qsdt_mm.models.layers.spiking import SpikingPart, UnitsDraw


class SpikeFPN(UnitsDraw, SpikingPart, FPN):
    """mmseg's FPN with a neuron before each convolution: the pyramid adds membrane potentials.

    Args: those of ``mmseg.FPN``, and ``neuron`` (spikes worth 1/4 each by default), ``levels``, ``weight_bits``.

    Source: design of SFA (arXiv 2411.16061), segmentation.
    """

    NEURON = dict(type='IELIF', threshold=1.0, scale=0.25, rounding='half_even')
