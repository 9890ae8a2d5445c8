"""Reconstructions: what was seen stays, what was not is in the units of the image."""

import pytest
import torch

pytest.importorskip('mmpretrain')

from qsdt_mm.engine.hooks.reconstruction import ReconstructionHook  # noqa: E402
from qsdt_mm.visualization.reconstruction import reconstruct  # noqa: E402


class Model(torch.nn.Module):
    """An autoencoder that predicts the normalised target exactly."""

    mask_ratio = 0.5

    def __init__(self):
        from mmpretrain.models.heads import MAEPretrainHead

        super().__init__()
        loss = dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2')
        self.head = MAEPretrainHead(loss, norm_pix=True, patch_size=4)

    def draw_visible(self, inputs):
        return torch.rand(len(inputs), 1, 2, 2) < 0.5

    def reconstruct(self, inputs, visible):
        return self.head.construct_target(inputs)


def test_a_perfect_prediction_is_the_image():
    model, images = Model().train(), torch.randn(3, 3, 8, 8)
    before = torch.get_rng_state()
    image, masked, predicted, both = reconstruct(model, images)
    assert torch.equal(torch.get_rng_state(), before) and model.training
    assert torch.equal(image, images)
    torch.testing.assert_close(predicted, images)
    torch.testing.assert_close(both, images)
    hidden = masked != images
    assert 0 < hidden.float().mean() < 1
    assert torch.equal(both[~hidden], images[~hidden])


def test_the_mask_is_the_seed_s():
    model, images = Model(), torch.randn(8, 3, 8, 8)
    assert torch.equal(reconstruct(model, images, 1)[1], reconstruct(model, images, 1)[1])
    assert not torch.equal(reconstruct(model, images, 1)[1], reconstruct(model, images, 2)[1])


@pytest.mark.parametrize('name', ['interval', 'images'])
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=f'{name}=0 is not allowed'):
        ReconstructionHook(**{name: 0})
