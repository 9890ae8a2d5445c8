"""Spike-MAE: exact masking, places of tokens, the golden encoder, a short run."""

import math

import pytest
import torch
from torch import nn

pytest.importorskip('mmpretrain')

from mmengine.registry import MODELS, DefaultScope  # noqa: E402

import qsdt_mm  # noqa: E402, F401
from qsdt_mm.models.selfsup.masking import PatchMask, SparseBatchNorm2d, mask_stages  # noqa: E402

ARCHS = {
    'large': dict(family='espike-large', widths=(4, 8, 8, 16), depths=(1, 1, 1, 1), num_heads=2, layer_scale=None),
    'branch': dict(
        family='espike-large', widths=(4, 8, 8, 16), depths=(1, 1, 1, 1), layer_scale=None, pointwise_branch=True
    ),
    'espike': dict(family='espike', widths=(4, 8, 8, 16, 16), depths=(1, 1, 1, 1, 1)),
    'qsd': dict(family='qsd', widths=(4, 8, 8, 16, 16), depths=(1, 1, 1, 1, 1), layer_scale=None),
}


def make(family='large', side=64, **kwargs):
    config = dict(
        type='SpikeMAE',
        backbone=dict(type='SpikeDrivenTransformer', arch=ARCHS[family], with_cp=kwargs.pop('with_cp', False)),
        neck=dict(
            type='SpikeMAEDecoder',
            num_patches=(side // 16) ** 2,
            patch_size=16,
            embed_dim=16,
            decoder_embed_dim=16,
            decoder_depth=1,
            decoder_num_heads=2,
        ),
        head=dict(
            type='MAEPretrainHead',
            norm_pix=True,
            patch_size=16,
            loss=dict(type='PixelReconstructionLoss', criterion='L2'),
        ),
        **kwargs,
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config)
    model.init_weights()
    return model


def visible_at(feature, visible):
    """The mask of visible positions at a feature map's resolution, (N, 1, H, W)."""
    factor = feature.shape[-1] // visible.shape[-1]
    return visible.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def visible_half(model, images):
    torch.manual_seed(1)
    return model.draw_visible(images)


@pytest.mark.parametrize('family', ARCHS)
def test_masking_is_exact(family):
    """Pixels under masked patches reach no visible place of the convolution stages and no statistic, bit for bit."""
    model = make(family).train()
    images = torch.randn(3, 3, 64, 64)
    visible = visible_half(model, images)
    noise = torch.where(visible_at(images, visible), images, 100 * torch.randn_like(images))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []

    def run(pixels):
        model.load_state_dict(state)
        outputs = []
        hooks = [
            module.register_forward_hook(lambda _, __, output: outputs.append(output.detach().clone()))
            for stage in model.backbone.stages[:3]
            for module in (stage.downsample, *stage.blocks)
        ]
        tokens = model.encode(pixels, visible)
        for hook in hooks:
            hook.remove()
        seen.append((outputs, tokens, {k: v.clone() for k, v in model.state_dict().items()}))

    run(images)
    run(noise)
    (first, tokens, statistics), (second, tokens_too, statistics_too) = seen
    for one, other in zip(first, second):
        mask = visible_at(one, visible).expand_as(one)
        assert torch.equal(one[mask], other[mask]) and one[mask].std() > 0
        assert not one[~mask].any()
    assert torch.equal(tokens, tokens_too)
    assert all(torch.equal(value, statistics_too[name]) for name, value in statistics.items())
    assert any(not torch.equal(value, state[name]) for name, value in statistics.items())


def test_norms_see_visible_positions_only():
    norm, visibility = nn.BatchNorm2d(3), PatchMask()
    plain = nn.BatchNorm2d(3)
    ours = SparseBatchNorm2d(norm, visibility)
    feature = torch.randn(2, 3, 8, 8, requires_grad=True)
    visibility.patches = torch.tensor([[1, 0], [0, 1]]).bool().expand(2, 1, 2, 2)
    out = ours(feature)
    mask = visibility.at(feature).expand_as(feature)
    wanted = plain(feature.movedim(1, -1)[mask[:, 0]][..., None, None]).flatten(1)
    assert torch.equal(out.movedim(1, -1)[mask[:, 0]], wanted) and not out[~mask].any()
    assert torch.equal(ours.running_var, plain.running_var)
    out.square().sum().backward()
    assert not feature.grad[~mask].any() and ours.weight is norm.weight
    visibility.patches = None
    assert torch.equal(ours.eval()(feature), plain.eval()(feature))


def test_tokens_keep_their_places():
    """What a masked patch predicts depends on its own place: the mask token's content is the same everywhere."""
    model = make().eval()
    tokens = torch.randn(1, 16, 16)
    masked = torch.zeros(1, 16)
    masked[0, [3, 9]] = 1
    entered = []
    model.neck.decoder_blocks[0].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    model.neck(tokens, masked)
    content = entered[0] - model.neck.decoder_pos_embed[:, 1:]
    torch.testing.assert_close(content[0, 3], model.neck.mask_token[0, 0])
    torch.testing.assert_close(content[0, 9], model.neck.mask_token[0, 0])
    kept = [i for i in range(16) if i not in (3, 9)]
    torch.testing.assert_close(content[0, kept], model.neck.decoder_embed(tokens)[0, kept])


def test_the_loss_counts_masked_patches_only():
    model = make().train()
    images = torch.randn(2, 3, 64, 64)
    visible = visible_half(model, images)
    predicted = model.reconstruct(images, visible)
    target = model.head.construct_target(images)
    wanted = (predicted - target).square().mean(-1)[~visible.flatten(1)].mean()
    model.draw_visible = lambda inputs: visible
    torch.testing.assert_close(model.loss(images, [])['loss'], wanted)


@pytest.mark.parametrize('ratio', [0, 0.5, 0.75, 0.99])
def test_as_many_patches_are_visible_in_each_image(ratio):
    model = make(mask_ratio=ratio)
    counts = model.draw_visible(torch.zeros(5, 3, 64, 64)).flatten(1).sum(1)
    assert counts.tolist() == [max(math.ceil(16 * (1 - ratio)), 1)] * 5


@pytest.mark.parametrize('with_cp', [False, True])
def test_training_reaches_every_weight(with_cp):
    model = make(side=160, with_cp=with_cp).train()  # enough tokens for a new attention to fire
    model.loss(torch.randn(4, 3, 160, 160), [])['loss'].backward()
    still = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not [name for name in still if 'bias' not in name], still  # a norm follows: biases have no effect


def test_checkpointing_changes_nothing():
    images, grads = torch.randn(2, 3, 64, 64), []
    state = make().state_dict()
    for with_cp in (False, True):
        model = make(with_cp=with_cp).train()
        model.load_state_dict(state)
        torch.manual_seed(3)
        model.loss(images, [])['loss'].backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.equal(value, grads[1][name]) for name, value in grads[0].items())


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (dict(mask_ratio=1), r'mask_ratio=1 is not allowed: expected a number in \[0, 1\)'),
        (dict(mask_ratio='half'), 'mask_ratio='),
    ],
)
def test_bad_arguments(arguments, said):
    with pytest.raises(ValueError, match=said):
        make(**arguments)


def test_images_of_another_size_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r'images of \(96, 96\) px: neck.num_patches says 64 x 64'):
        make().loss(torch.randn(2, 3, 96, 96), [])


def test_its_backbone_is_a_plain_backbone(tmp_path):
    """The checkpoint of pre-training starts fine-tuning, which adds layer scale."""
    model = make()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'mae.pth')
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'mae.pth'), prefix='backbone.')
    backbone = qsdt_mm.SpikeDrivenTransformer(dict(ARCHS['large'], layer_scale=1e-6), init_cfg=start)
    backbone.init_weights()
    theirs = model.backbone.state_dict()
    ours = {k: v for k, v in backbone.state_dict().items() if not k.endswith('gain.weight')}
    assert ours.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in ours.items())


def test_golden_encoder(golden):
    from qsdt_mm.published import load_backbone
    from qsdt_mm.published.files import load_file

    path = golden('spikemae_encoder_public.pth')
    wanted = torch.load(golden('spikemae_encoder_public_io.pt'), weights_only=True)
    backbone = load_backbone(path).double()
    tensors = load_file(path)['model']
    visibility = PatchMask()
    *conv_stages, tokens = backbone.stages[:4]
    for part in (*conv_stages, tokens.downsample):
        mask_stages(part, visibility)
    visibility.patches = wanted['active']
    norm = nn.BatchNorm1d(64).double().eval()
    norm.load_state_dict({n.removeprefix('norm.'): t for n, t in tensors.items() if n.startswith('norm.')})
    with torch.no_grad():
        latent = norm(backbone(visibility.hold(wanted['input'].double()))[0].flatten(2)).mT
    assert (latent - wanted['latent']).abs().max() < 1e-6 * wanted['latent'].abs().max()
