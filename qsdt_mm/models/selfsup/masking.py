"""Convolution stages that see visible patches only, in the manner of SparK (arXiv 2301.03580)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qsdt_mm.compat.renamed import refuse_old_names
from qsdt_mm.models.layers import SpikeUnit

__getattr__ = refuse_old_names(__name__, 'Visibility', 'VisibleBatchNorm2d', 'see_visible_only')


class PatchMask:
    """Mask of the visible patches, at any resolution; shared by all layers of one network.

    >>> mask = PatchMask()
    >>> mask.patches = torch.tensor([[[[True, False]]]])
    >>> mask.hold(torch.ones(1, 3, 2, 4))[0, 0].tolist()
    [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    """

    def __init__(self) -> None:
        self.patches: Tensor | None = None

    def at(self, feature: Tensor) -> Tensor | None:
        """Return the mask ``(N, 1, H, W)`` for a feature map ``(N, C, H, W)``, boolean; None when nothing is masked."""
        if self.patches is None:
            return None
        height, width = (size // patch for size, patch in zip(feature.shape[-2:], self.patches.shape[-2:]))
        mask = self.patches.repeat_interleave(height, -2).repeat_interleave(width, -1)
        return mask.expand(len(feature), -1, -1, -1)

    def hold(self, feature: Tensor) -> Tensor:
        """Set masked positions of the feature map to zero."""
        mask = self.at(feature)
        return feature if mask is None else torch.where(mask, feature, feature.new_zeros(()))


class SparseBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over visible positions; masked ones are zero afterwards. Weights are those of ``BatchNorm2d``.

    Args:
        norm: the norm whose parameters and statistics it takes over.
        visibility: what is visible.

    >>> norm = SparseBatchNorm2d(nn.BatchNorm2d(3), PatchMask())  # nothing is masked
    >>> norm(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """

    def __init__(self, norm: nn.BatchNorm2d, visibility: PatchMask) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.visibility = visibility
        for name, value in (*norm.named_parameters(recurse=False), *norm.named_buffers(recurse=False)):
            setattr(self, name, value)
        self.train(norm.training)

    def forward(self, feature: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W) -> (N, C, H, W)``."""
        mask = self.visibility.at(feature)
        if mask is None:
            return super().forward(feature)
        seen = mask.squeeze(1)
        normed = super().forward(feature.movedim(1, -1)[seen][..., None, None])
        out = normed.new_zeros(feature.movedim(1, -1).shape)
        out[seen] = normed.flatten(1)
        return out.movedim(-1, 1)


def mask_stages(stages: nn.Module, visibility: PatchMask) -> None:
    """Make the units of convolution stages hold masked positions at zero after every convolution and norm.

    The names of parameters do not change: checkpoints fit with and without.
    """
    for unit in [module for module in stages.modules() if isinstance(module, SpikeUnit)]:
        for layer in unit.synapse.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda _, inputs, output: visibility.hold(output))
    for parent in list(stages.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:
                setattr(parent, name, SparseBatchNorm2d(norm, visibility))
