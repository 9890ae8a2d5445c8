"""Heads for mmseg, with a neuron before each convolution and no other activation.

Units draw the weights of the last layer too: with mmseg's deviation of 0.01 a head does not even learn 16 images by
heart.
"""

from __future__ import annotations

from mmseg.models.decode_heads import FCNHead, FPNHead

from qsdt_mm.models.layers.spiking import SpikingPart, UnitsDraw


class SpikeFPNHead(UnitsDraw, SpikingPart, FPNHead):
    """mmseg's head of Semantic FPN: ``N conv3 BN`` on each level, and ``N pw`` for the classes.

    Args: those of ``mmseg.FPNHead``, and ``neuron`` (spikes worth 1/4 each by default), ``levels``, ``weight_bits``.
    Give ``norm_cfg``.
    """

    NEURON = dict(type='IELIF', threshold=1.0, scale=0.25, rounding='half_even')


class SpikeFCNHead(UnitsDraw, SpikingPart, FCNHead):
    """mmseg's fully convolutional head with a neuron before each convolution: an auxiliary or baseline head.

    Args: those of ``mmseg.FCNHead``, and ``neuron`` (spikes worth 1/4 each by default), ``levels``, ``weight_bits``.
    Give ``norm_cfg``.
    """

    NEURON = dict(type='IELIF', threshold=1.0, scale=0.25, rounding='half_even')
