"""Figures of a masked autoencoder's reconstructions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from .figures import new_figure, save_figure


@torch.no_grad()
def reconstruct(model: nn.Module, inputs: Tensor, seed: int = 0) -> list[Tensor]:
    """Return images, the parts of them that the model sees, its prediction, and the prediction beside these parts.

    Predictions of normalised pixels get the mean and deviation of the patch that they stand for.

    Args:
        model: a ``SpikeMAE``; its mode and the random numbers of the caller are left as they were.
        inputs: a preprocessed batch ``(N, C, H, W)``.
        seed: of the mask.

    Returns:
        Four batches ``(N, C, H, W)``, in the values of ``inputs``.
    """
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            visible = model.draw_visible(inputs.cpu()).to(inputs.device)
        patches = model.reconstruct(inputs, visible).float()
    finally:
        model.train(training)
    if model.head.norm_pix:
        target = model.head.patchify(inputs)
        patches = patches * (target.var(-1, keepdim=True) + 1e-6).sqrt() + target.mean(-1, keepdim=True)
    predicted = model.head.unpatchify(patches)
    size = model.head.patch_size
    mask = visible.repeat_interleave(size, -2).repeat_interleave(size, -1)
    grey = inputs.mean((-3, -2, -1), keepdim=True).expand_as(inputs)
    return [inputs, torch.where(mask, inputs, grey), predicted, torch.where(mask, inputs, predicted)]


def draw_reconstructions(model: nn.Module, inputs: Tensor, path: Path, seed: int = 0) -> None:
    """Write a figure of :func:`reconstruct`, a row for each image."""
    columns = reconstruct(model, inputs, seed)
    preprocessor = model.data_preprocessor
    mean, std = (getattr(preprocessor, f'_{name}', getattr(preprocessor, name, None)) for name in ('mean', 'std'))
    figure = new_figure(6.4, 1.6 * len(inputs) + 0.3)
    grid = figure.subplots(len(inputs), 4, squeeze=False)
    titles = ('image', f'{100 * model.mask_ratio:g} % masked', 'predicted', 'predicted and seen')
    for title, column, batch in zip(titles, grid.T, columns):
        pixels = batch if mean is None else batch * std.to(batch) + mean.to(batch)
        for axes, image in zip(column, (pixels / 255 if mean is not None else pixels).clamp(0, 1).cpu()):
            axes.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap='gray', vmin=0, vmax=1)
            axes.axis('off')
        column[0].set_title(title, fontsize=9)
    save_figure(figure, Path(path))
