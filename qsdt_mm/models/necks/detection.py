"""Necks for mmdet."""

from mmdet.models.necks import FPN

from qsdt_mm.models.layers.spiking import SpikingPart, UnitsDraw


class SpikeFPN(UnitsDraw, SpikingPart, FPN):
    """mmdet's FPN with a neuron before each convolution: the pyramid adds membrane potentials.

    Args: those of ``mmdet.FPN``, and ``neuron``, ``levels``, ``weight_bits``.

    Source: design of SFA (arXiv 2411.16061), detection.
    """
