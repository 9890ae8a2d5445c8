"""Necks for mmdet."""

from mmdet.models.necks import FPN, CSPNeXtPAFPN

from qsdt_mm.models.layers.spiking import SpikingMixin, UnitsDraw


class SpikeFPN(UnitsDraw, SpikingMixin, FPN):
    """mmdet's FPN with a neuron before each convolution: the pyramid adds membrane potentials.

    Args: those of ``mmdet.FPN``, and ``neuron``, ``max_spike_count``, ``weight_bits``.

    Source: design of SFA (arXiv 2411.16061), detection.

    >>> neck = SpikeFPN(in_channels=[8, 16], out_channels=16, num_outs=2)
    >>> [tuple(level.shape) for level in neck([torch.ones(1, 8, 8, 8), torch.ones(1, 16, 4, 4)])]
    [(1, 16, 8, 8), (1, 16, 4, 4)]
    """


class SpikeCSPNeXtPAFPN(UnitsDraw, SpikingMixin, CSPNeXtPAFPN):
    """RTMDet's neck in mmdet with a neuron before each convolution: membrane potentials are joined and sent on.

    Args: those of ``mmdet.CSPNeXtPAFPN``, and ``neuron``, ``max_spike_count``, ``weight_bits``.

    Source: RTMDet (arXiv 2212.07784), section 3.2.

    >>> neck = SpikeCSPNeXtPAFPN(in_channels=[8, 16], out_channels=8, num_csp_blocks=1)
    >>> [tuple(level.shape) for level in neck([torch.ones(1, 8, 8, 8), torch.ones(1, 16, 4, 4)])]
    [(1, 8, 8, 8), (1, 8, 4, 4)]
    """
