"""Outputs of the published implementations."""

import pytest
import torch
from precisions import precisions_and_forms
from torch import nn

from qsdt_mm import load_published
from qsdt_mm.models.layers import SpikeUnit
from qsdt_mm.published import load_backbone
from qsdt_mm.published.files import convert_file, load_file


def relative_error(ours, theirs):
    assert ours.shape == theirs.shape
    return ((ours.double() - theirs).abs().max() / theirs.abs().max()).item()


LARGE = ['espike_large_base_public', 'espike_large_large_public']


@pytest.fixture
def golden_file(golden, tmp_path):
    """A published checkpoint, as it is or converted, and what it computes."""

    def find(name, converted):
        path = golden(f'{name}.pth')
        if converted:
            convert_file(path, tmp_path / 'out.pth')
            path = tmp_path / 'out.pth'
        return path, torch.load(golden(f'{name}_io.pt'), weights_only=True)

    return find


@precisions_and_forms
@pytest.mark.parametrize('name', ['qsd_public', 'espike_public', 'espike_ties_public', *LARGE])
def test_golden_outputs(golden_file, name, dtype, bound, converted):
    path, wanted = golden_file(name, converted)
    stages = (0, 1, 2, 4) if name in LARGE else (0, 1, 2, 3, 4)
    model = load_published(path, out_indices=stages).to(dtype)
    with torch.no_grad():
        features = model.backbone(wanted['input'].to(dtype))
        errors = {'logits': relative_error(model(wanted['input'].to(dtype)), wanted['output'])}
    assert len(features) == len(wanted['feats']) == len(stages)
    for ours, (stage, theirs) in zip(features, wanted['feats'].items(), strict=True):
        if not name.startswith(('espike_public', 'espike_ties')):  # time first
            theirs = theirs[0]
        errors[stage] = relative_error(ours.flatten(2) if theirs.dim() == 3 else ours, theirs)
    print({stage: f'{error:.1e}' for stage, error in errors.items()})
    assert max(errors.values()) < bound, errors


def masked_encoder(backbone, norm, image, active):
    """The encoder of Spike-MAE in evaluation mode: what is masked is zero after every convolution before the tokens."""

    def mask(_, __, output):
        return output * nn.functional.interpolate(active, size=output.shape[-2:])

    *conv_stages, last = backbone.stages
    masked = [stage.downsample for stage in backbone.stages]
    masked += [m for stage in conv_stages for m in stage.blocks.modules() if isinstance(m, SpikeUnit)]
    hooks = [unit.register_forward_hook(mask) for unit in masked]
    tokens = backbone(mask(None, None, image))[0]
    for hook in hooks:
        hook.remove()
    return norm(tokens).flatten(2).mT


@precisions_and_forms
def test_golden_encoder_of_spike_mae(golden_file, dtype, bound, converted):
    path, wanted = golden_file('spikemae_encoder_public', converted)
    backbone, tensors = load_backbone(path).to(dtype), load_file(path)['state_dict' if converted else 'model']
    norm = nn.BatchNorm2d(64).to(dtype).eval()
    norm.load_state_dict({n.removeprefix('norm.'): t for n, t in tensors.items() if n.startswith('norm.')})
    with torch.no_grad():
        latent = masked_encoder(backbone, norm, wanted['input'].to(dtype), wanted['active'].to(dtype))
    assert relative_error(latent, wanted['latent']) < bound
