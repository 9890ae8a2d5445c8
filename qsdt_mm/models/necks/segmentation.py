"""Necks for mmseg."""

from mmseg.models.necks import FPN

from qsdt_mm.models.layers.spiking import SpikingMixin, UnitsDraw


class SpikeFPN(UnitsDraw, SpikingMixin, FPN):
    """mmseg's FPN with a neuron before each convolution: the pyramid adds membrane potentials.

    Args: those of ``mmseg.FPN``, and ``neuron`` (a spike is worth 1/4), ``max_spike_count``, ``weight_bits``.

    Source: design of SFA (arXiv 2411.16061), segmentation.

    >>> neck = SpikeFPN(in_channels=[8, 16], out_channels=16, num_outs=2)
    >>> [tuple(level.shape) for level in neck([torch.ones(1, 8, 8, 8), torch.ones(1, 16, 4, 4)])]
    [(1, 16, 8, 8), (1, 16, 4, 4)]
    """

    NEURON = dict(type='IELIF', threshold=1.0, scale=0.25, rounding='half_even')
