"""Heads for mmseg, with a neuron before each convolution and no other activation.

Units draw the weights of the last layer too: with mmseg's deviation of 0.01 a head does not even learn 16 images by
heart.
"""

from __future__ import annotations

from mmseg.models.decode_heads import FCNHead, FPNHead, UPerHead

from qsdt_mm.models.layers.spiking import SpikingMixin, UnitsDraw


class SpikeFPNHead(UnitsDraw, SpikingMixin, FPNHead):
    """mmseg's head of Semantic FPN: ``N conv3 BN`` on each level, and ``N pw`` for the classes.

    Args: those of ``mmseg.FPNHead``, and ``neuron`` (a spike is worth 1/4), ``max_spike_count``, ``weight_bits``.
    Give ``norm_cfg``.

    >>> head = SpikeFPNHead(
    ...     feature_strides=[4, 8], in_channels=[16, 16], in_index=[0, 1], channels=16, num_classes=5,
    ...     norm_cfg=dict(type='BN'))
    >>> head([torch.ones(2, 16, 8, 8), torch.ones(2, 16, 4, 4)]).shape
    torch.Size([2, 5, 8, 8])
    """

    NEURON = dict(type='IELIF', threshold=1.0, scale=0.25, rounding='half_even')


class SpikeFCNHead(UnitsDraw, SpikingMixin, FCNHead):
    """mmseg's fully convolutional head with a neuron before each convolution: an auxiliary or baseline head.

    Args: those of ``mmseg.FCNHead``, and ``neuron`` (a spike is worth 1/4), ``max_spike_count``, ``weight_bits``.
    Give ``norm_cfg``.

    >>> head = SpikeFCNHead(num_convs=1, in_channels=16, channels=16, num_classes=5, norm_cfg=dict(type='BN'))
    >>> head([torch.ones(2, 16, 8, 8)]).shape
    torch.Size([2, 5, 8, 8])
    """

    NEURON = dict(type='IELIF', threshold=1.0, scale=0.25, rounding='half_even')


class SpikeUPerHead(UnitsDraw, SpikingMixin, UPerHead):
    """mmseg's head of UPerNet: pyramid pooling and FPN with a neuron before each convolution, ``N pw`` for the classes.

    Pooling, upsampling, sums and concatenations are of membrane potentials. Inputs may have any strides; those of the
    backbone are 4, 8, 16 and 16 with ``out_indices=(1, 2, 3, 4)``.

    Args: those of ``mmseg.UPerHead``, and ``neuron`` (a spike is worth 1/4), ``max_spike_count``, ``weight_bits``.
    Give ``norm_cfg``.

    Source: UPerNet (arXiv 1807.10221).

    >>> head = SpikeUPerHead(
    ...     in_channels=[16, 16], in_index=[0, 1], channels=16, num_classes=5, norm_cfg=dict(type='BN'))
    >>> head([torch.ones(2, 16, 8, 8), torch.ones(2, 16, 4, 4)]).shape
    torch.Size([2, 5, 8, 8])
    """

    NEURON = dict(type='IELIF', threshold=1.0, scale=0.25, rounding='half_even')
