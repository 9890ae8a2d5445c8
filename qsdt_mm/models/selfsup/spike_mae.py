"""Spike-MAE: masked autoencoding with a spiking encoder.

Source: SFA (arXiv 2411.16061), Spike-MAE; convolution stages as in SparK (arXiv 2301.03580), decoder and loss as in
MAE (arXiv 2111.06377).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from mmpretrain.models.necks import MAEPretrainDecoder
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor, nn

from qsdt_mm.errors import InputError, require
from qsdt_mm.models.backbones.presets import CONV_STAGES

from .masking import PatchMask, mask_stages


class SpikeMAEDecoder(MAEPretrainDecoder):
    """MAE's light ViT decoder on full-length tokens: each token keeps its place, masked places get the mask token.

    Args: those of mmpretrain's ``MAEPretrainDecoder``.

    >>> decoder = SpikeMAEDecoder(
    ...     num_patches=4, patch_size=16, embed_dim=32, decoder_embed_dim=32, decoder_depth=1, decoder_num_heads=2)
    >>> masked = torch.ones(1, 4, dtype=torch.bool)
    >>> decoder(torch.ones(1, 4, 32), masked).shape  # 16 * 16 pixels, 3 colours
    torch.Size([1, 4, 768])
    """

    def forward(self, tokens: Tensor, masked: Tensor) -> Tensor:
        """Predict the pixels of each patch.

        Args:
            tokens: the encoder's, ``(N, L, C)``.
            masked: ``(N, L)``, 1 where the patch was masked.

        Returns:
            ``(N, L, patch_size^2 * channels)``.
        """
        embedded = self.decoder_embed(tokens)
        embedded = torch.where(masked[..., None].bool(), self.mask_token.to(embedded.dtype), embedded)
        embedded = embedded + self.decoder_pos_embed[:, 1:]  # the first is a class token's
        for block in self.decoder_blocks:
            embedded = block(embedded)
        return self.decoder_pred(self.decoder_norm(embedded))


class SpikeMAE(BaseSelfSupervisor):
    """Masked autoencoder around a ``SpikeDrivenTransformer``.

    The convolution stages see visible patches only, blocks of transformers see all tokens, and a batch norm closes the
    encoder. What it saves as ``backbone.`` is a backbone's checkpoint.

    Args:
        backbone: config of a ``SpikeDrivenTransformer`` with one time step. Layer scale is best left out.
        neck: config of a :class:`SpikeMAEDecoder`.
        head: config of mmpretrain's ``MAEPretrainHead``; its ``patch_size`` must be the backbone's total stride.
        mask_ratio: share of the patches that is masked, in [0, 1); at least one patch stays visible.
        kwargs: those of mmpretrain's ``BaseSelfSupervisor``.

    Raises:
        ValueError: an argument is out of range or does not fit the others.
        InputError: images are not of the size that the decoder is made for.

    >>> arch = dict(preset='qsd-8m', widths=(8, 8, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2)
    >>> model = SpikeMAE(
    ...     dict(type='qsdt_mm.SpikeDrivenTransformer', arch=arch),
    ...     neck=dict(type='qsdt_mm.SpikeMAEDecoder', num_patches=4, patch_size=16, embed_dim=16,
    ...         decoder_embed_dim=32, decoder_depth=1, decoder_num_heads=2),
    ...     head=dict(type='MAEPretrainHead', patch_size=16, loss=dict(type='PixelReconstructionLoss', criterion='L2')))
    >>> model.draw_visible(torch.ones(1, 3, 32, 32)).sum().item()  # half of 4 patches
    2
    """

    def __init__(self, backbone: dict, neck: dict, head: dict, mask_ratio: float = 0.5, **kwargs: Any) -> None:
        super().__init__(backbone=backbone, neck=neck, head=head, **kwargs)
        require(
            isinstance(mask_ratio, (int, float)) and 0 <= mask_ratio < 1, 'mask_ratio', mask_ratio, 'a number in [0, 1)'
        )
        stride = math.prod(self.backbone.arch.strides)
        require(
            self.head.patch_size == stride, 'head.patch_size', self.head.patch_size, f"{stride}, the backbone's stride"
        )
        require(self.backbone.time_steps == 1, 'backbone.time_steps', self.backbone.time_steps, '1')
        self.mask_ratio = mask_ratio
        self.norm = nn.BatchNorm1d(self.backbone.arch.widths[-1])
        self.visibility = PatchMask()
        *conv_stages, tokens = self.backbone.stages[: CONV_STAGES + 1]
        for part in (*conv_stages, tokens.downsample):
            mask_stages(part, self.visibility)

    def draw_visible(self, inputs: Tensor) -> Tensor:
        """Draw a mask of visible patches ``(N, 1, H / patch, W / patch)``, as many in each image."""
        height, width = (size // self.head.patch_size for size in inputs.shape[-2:])
        patches = height * width
        seen = max(patches - int(patches * self.mask_ratio), 1)
        order = torch.rand(len(inputs), patches, device=inputs.device).argsort(1)
        return (order < seen).view(-1, 1, height, width)

    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Encode images ``(N, C, H, W)`` as tokens ``(N, L, C)``, in place; ``visible`` as :meth:`draw_visible`."""
        self.visibility.patches = visible
        try:
            (feature,) = self.backbone(self.visibility.hold(inputs))
        finally:
            if not self.backbone.with_cp:  # what is computed again in the backward pass asks again
                self.visibility.patches = None
        return self.norm(feature.flatten(2)).mT

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Return the encoder's tokens, nothing masked."""
        return self.encode(inputs)

    def reconstruct(self, inputs: Tensor, visible: Tensor) -> Tensor:
        """Predict the pixels of each patch ``(N, L, patch^2 * C)``, in the head's units."""
        return self.neck(self.encode(inputs, visible), ~visible.flatten(1))

    def loss(self, inputs: Tensor, data_samples: list | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Compute the mean square error on masked patches."""
        patches = (inputs.shape[-2] // self.head.patch_size) * (inputs.shape[-1] // self.head.patch_size)
        if patches != self.neck.num_patches or inputs.shape[-1] != inputs.shape[-2]:
            side = math.isqrt(self.neck.num_patches) * self.head.patch_size
            raise InputError(f'images of {tuple(inputs.shape[-2:])} px: neck.num_patches says {side} x {side}')
        visible = self.draw_visible(inputs)
        predicted = self.reconstruct(inputs, visible)
        return dict(loss=self.head.loss(predicted, inputs, (~visible.flatten(1)).to(predicted.dtype)))
