"""Strides of outputs that stock necks and heads expect, stages that nobody sees, and maps as any code takes them."""

from functools import partial

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from tiny_backbones import TINY, assert_equal_outputs, backward, families, tiny

from qsdt_mm import SpikeDrivenTransformer, load_published
from qsdt_mm.models.backbones import spike_driven_transformer as module
from qsdt_mm.models.backbones.strides import with_output_strides

STOCK = dict(out_indices=(1, 2, 3, 4), output_strides=(4, 8, 16, 32))


def sizes(model, size=64):
    with torch.no_grad():
        return tuple(size // o.shape[-1] for o in model.eval()(torch.randn(1, 3, size, size)))


@families
@pytest.mark.parametrize(
    ('out_indices', 'strides'),
    [
        ((1, 2, 3, 4), (4, 8, 16, 32)),
        ((1, 2, 3, 4), (4, 8, 16, 16)),
        ((1, 2, 3, 4), [4, 8, 8, 8]),
        ((1, 2, 3, 4), (1, 2, 4, 8)),
        ((0, 1, 2, 4), (2, 4, 8, 32)),
        ((4, 2), (32, 8)),
        ((2, 3), (4, 32)),
        ((4,), (32,)),
        ((4,), 8),
        ((4,), 1),
        ((1,), 6),
    ],
)
def test_outputs_have_the_strides_asked_for(family, out_indices, strides):
    model = tiny(family, out_indices=out_indices, output_strides=strides)
    expected = tuple(strides) if isinstance(strides, (tuple, list)) else (strides,)
    assert model.output_strides == expected
    assert sizes(model, 96 if 6 in expected else 64) == expected


@families
def test_without_it_strides_are_those_of_the_architecture(family):
    assert tiny(family, out_indices=(1, 2, 3, 4)).output_strides == (4, 8, 16, 16)
    if family != 'espike-large':
        arch = dict(TINY[family], strides=(1, 1, 2, 2, 1))
        model = SpikeDrivenTransformer(arch, out_indices=(0, 4))
        assert model.output_strides == sizes(model) == (1, 4)
        assert SpikeDrivenTransformer(arch, out_indices=(1, 4), output_strides=(4, 8)).arch.strides == (1, 4, 1, 1, 2)


@families
def test_weights_are_those_of_any_strides(family):
    plain, strided = tiny(family), tiny(family, out_indices=(0, 1, 2, 3, 4), output_strides=(2, 4, 8, 16, 32))
    strided.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert_equal_outputs(strided.eval()(image)[:4], plain.eval()(image)[:4])


@pytest.mark.parametrize('name', ['qsd_public', 'espike_public', 'espike_large_base_public'])
def test_published_weights_load(golden, name):
    pytest.importorskip('mmpretrain')
    plain = load_published(golden(f'{name}.pth'), out_indices=(1, 2, 3, 4))
    strided = load_published(golden(f'{name}.pth'), **STOCK)
    state = strided.state_dict()
    assert state.keys() == plain.state_dict().keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in plain.state_dict().items())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs, expected = strided.backbone(image), plain.backbone(image)
    assert_equal_outputs(outputs[:3], expected[:3])
    assert outputs[3].shape[2:] == (2, 2) and outputs[3].isfinite().all()


@pytest.mark.parametrize(
    ('out_indices', 'strides', 'allowed'),
    [
        ((1, 2), (4,), '2 integers >= 1, one for each of out_indices=(1, 2)'),
        ((1, 2), (4, 0), '2 integers >= 1'),
        ((1, 2), (4, 8.0), '2 integers >= 1'),
        ((1, 2), (4, True), '2 integers >= 1'),
        ((1, 2), '48', '2 integers >= 1'),
        ((1, 2), (8, 4), 'each a multiple of the ones of stages before'),
        ((2, 1), (4, 8), 'each a multiple of the ones of stages before'),
        ((1, 4), (4, 6), 'each a multiple of the ones of stages before'),
    ],
)
def test_impossible_strides_are_refused(out_indices, strides, allowed):
    with pytest.raises(ValueError) as error:
        tiny(out_indices=out_indices, output_strides=strides)
    assert str(error.value).startswith(f'output_strides={strides!r} is not allowed') and allowed in str(error.value)


def test_one_stage_at_two_strides_is_pooled():
    """The large sizes have no stage of stride 32: a map as large as a convolution would make it, also of odd sizes."""
    model = tiny('espike-large', **STOCK).eval()
    with torch.no_grad():
        *_, third, last = model(torch.randn(1, 3, 80, 48))
    assert third.shape[2:] == (5, 3) and last.shape[2:] == (3, 2)
    assert torch.equal(last[..., :2, :1], torch.nn.functional.max_pool2d(third[..., :4, :2], 2))
    assert with_output_strides(model.arch, (3, 4), (16, 32)) == model.arch


@families
@pytest.mark.parametrize('out_indices', [(0,), (3,), (1, 2)])
def test_stages_that_nobody_sees_are_not_built(family, out_indices):
    """Their weights would have no gradient, which ends distributed training."""
    model = tiny(family, out_indices=out_indices, drop_path_rate=0.3)
    assert len(model.stages) == max(out_indices) + 1
    backward(model(torch.randn(2, 3, 32, 32)))
    assert not [name for name, p in model.named_parameters() if p.grad is None]


@families
def test_what_is_built_is_as_in_the_whole(family):
    whole, part = tiny(family, drop_path_rate=0.3), tiny(family, out_indices=(2,), drop_path_rate=0.3)
    names = [name for name, _ in part.named_parameters()]
    assert [part.get_layer_depth(n) for n in names] == [whole.get_layer_depth(n) for n in names]
    rates = [
        [m.drop_prob for m in model.stages[:3].modules() if type(m).__name__ == 'DropPath'] for model in (whole, part)
    ]
    assert rates[0] == rates[1]


@pytest.mark.parametrize('load', [torch.nn.Module.load_state_dict, partial(load_state_dict, strict=True)])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_whole_backbones_load_into_parts(load, prefix, monkeypatch):
    lines = []
    monkeypatch.setattr(module, 'print_log', lambda line, *_: lines.append(line))
    whole, part = tiny(out_indices=(2, 4)), tiny(out_indices=(2,))
    wrap = (lambda m: torch.nn.ModuleDict({'backbone': m})) if prefix else lambda m: m
    state = wrap(whole).state_dict()
    before = list(state)
    torch.nn.init.zeros_(part.stages[0].downsample.synapse.weight)
    load(wrap(part), state)
    assert list(state) == before, 'what was handed over is left alone'
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(part.eval()(image)[0], whole.eval()(image)[0])
    left_out = sum('stages.3' in name or 'stages.4' in name for name in before)
    assert lines == [f'{left_out} weights of stages 3 to 4 are left out: out_indices=(2,) need none of them']
    state[f'{prefix}stages.7.weight'] = torch.ones(1)
    with pytest.raises(RuntimeError, match='stages.7'):
        load(wrap(part), state)


def test_pretrained_weights_of_a_whole_backbone_fill_a_part(tmp_path):
    whole = tiny(out_indices=(4,))
    torch.save(whole.state_dict(), tmp_path / 'whole.pth')
    part = tiny(out_indices=(1,), init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'whole.pth')))
    part.init_weights()
    assert torch.equal(part.stages[1].downsample.synapse.weight, whole.stages[1].downsample.synapse.weight)


@families
@pytest.mark.parametrize('frames', [False, True])
def test_contiguous_images_give_contiguous_maps(family, frames):
    model = tiny(family, time_steps=2 if frames else 1).eval()
    image = torch.randn(2, 2, 3, 64, 48) if frames else torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        outputs = model(image)
        assert all(o.is_contiguous() for o in outputs)
        if not frames:
            last = torch.channels_last
            assert all(o.is_contiguous(memory_format=last) for o in model(image.contiguous(memory_format=last)))
            assert all(o.is_contiguous() for o in model(image.transpose(2, 3)))


@pytest.mark.parametrize('strides', [(4, 8, 16, 32), (4, 8, 16, 16)])
def test_maps_of_one_image_are_contiguous_after_pooling_too(strides):
    outputs = tiny('espike-large', out_indices=(1, 2, 3, 4), output_strides=strides)(torch.randn(1, 3, 64, 64))
    assert all(o.is_contiguous() for o in outputs)
    backward(outputs)
