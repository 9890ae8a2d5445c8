"""Small networks to be deployed, and pictures of whole numbers."""

import torch
import torch.nn.functional as F
from torch import nn
from trained_networks import trained

from qsdt_mm.deploy import plan

KINDS = dict(
    qsd=dict(family='qsd'),
    espike=dict(family='espike', weight_bits=32),
    large=dict(family='espike-large', weight_bits=32),
    many=dict(family='espike-large', weight_bits=32, max_spike_count=8),
    two_bits=dict(family='qsd', weight_bits=2, max_spike_count=1),
    eight_bits=dict(family='espike', weight_bits=8, max_spike_count=8),
    still=dict(family='qsd', time_steps=3),
    film=dict(family='espike', time_steps=2, max_spike_count=2),
    lif=dict(family='espike', time_steps=4, max_spike_count=1, neuron=dict(type='LIF', threshold=0.25, reset=-0.125)),
    decaying=dict(family='qsd', time_steps=3, neuron=dict(type='IELIF', decay=0.75)),
)


class WithHead(nn.Module):
    """A backbone, the mean over positions, and a classifier."""

    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, image):
        feature = self.backbone(image)[-1]
        return self.head((F.adaptive_avg_pool2d(feature, 1).view(feature.shape[0], -1),))


def pictures(number, channels=3, size=(32, 32), seed=0):
    """Pictures with structure at several scales, uint8."""
    generator = torch.Generator().manual_seed(seed)
    total = 0
    for factor, weight in ((1, 12), (4, 20), (16, 40)):
        small = [max(length // factor, 1) for length in size]
        noise = torch.randn(number, channels, *small, generator=generator)
        total = total + weight * F.interpolate(noise, size, mode='bilinear', align_corners=False)
    return (total + 118).round().clamp(0, 255).to(torch.uint8)


def shown(network, number, seed):
    """Pictures in the shape that a network takes."""
    if network.time_steps == 2:  # a film
        return pictures(number * 2, seed=seed).unflatten(0, (number, 2))
    return pictures(number, seed=seed)


def plan_of(network, seed=1):
    """The plan of a backbone."""
    return plan(
        network, shown(network, 3, seed), mean=torch.tensor([120.0]), std=torch.tensor([58.0]), run=lambda m, x: m(x)
    )


def kind(name):
    """A network of :data:`KINDS`."""
    return trained(**KINDS[name])
