"""Published checkpoints become models that compute the same."""

import pytest
import torch
from published_tensors import ARCHS, CLASSES, assert_same, publish

from qsdt_mm import load_published
from qsdt_mm.models.backbones.presets import FAMILIES
from qsdt_mm.published.files import convert_file, read_converted


@pytest.fixture(scope='module')
def images():
    return torch.rand(2, 2, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('family', ARCHS)
def test_the_loaded_model_computes_the_same(tmp_path, nets, images, family):
    path, out = tmp_path / 'published.pth', tmp_path / 'out.pth'
    torch.save(dict(model=publish(nets[family], family)), path)
    convert_file(path, out)
    net = nets[family]
    with torch.no_grad():
        logits, features = net(images), net.backbone(images)[0]
        for file in (path, out):
            model = load_published(file)
            assert type(model).__name__ == 'ImageClassifier' and not model.training
            torch.testing.assert_close(model(images), logits, rtol=0, atol=0)
            torch.testing.assert_close(model.backbone(images)[0], features, rtol=0, atol=0)
    assert logits.std() > 1e-3


def test_overrides_reach_backbone_and_head(source, images):
    model = load_published(
        source,
        (1, 4),
        max_spike_count=8,
        weight_bits=8,
        drop_path_rate=0.2,
        with_cp=True,
        time_steps=2,
        arch=dict(num_heads=4),
    )
    backbone, neuron = model.backbone, model.head.fc.neuron
    assert (backbone.arch.num_heads, backbone.out_indices, backbone.with_cp) == (4, (1, 4), True)
    neurons = [m for m in model.modules() if hasattr(m, 'max_spike_count')]
    assert {(m.max_spike_count, m.time_steps) for m in neurons} == {(8, 2)} and neuron in neurons
    assert {m.weight_bits for m in model.modules() if hasattr(m, 'weight_bits')} == {8}
    with torch.no_grad():
        assert model(images).shape == (2, CLASSES)
        assert [f.shape[0] for f in backbone(images)] == [4, 4]  # time stays in the batch
        averaged = load_published(source, time_steps=2, time_mean=True)
        assert averaged(images).shape == (2, CLASSES) and averaged.backbone(images)[0].shape[0] == 2
    full = load_published(source, weight_bits=32)
    assert not any('quantizer' in name for name in full.state_dict())


def test_overrides_reach_both_heads(tmp_path, nets, images):
    torch.save(dict(model=publish(nets['espike-large'], 'espike-large')), tmp_path / 'published.pth')
    model = load_published(tmp_path / 'published.pth', (2, 3), max_spike_count=8, time_steps=2, drop_path_rate=0.1)
    assert type(model.head).__name__ == 'SpikeTwoHeadClsHead'
    assert (model.head.fc.neuron, model.head.fc_dist.neuron.max_spike_count, model.head.time_steps) == (None, 8, 2)
    with torch.no_grad():
        assert model(images).shape == (2, CLASSES)
        assert [f.shape[:2] for f in model.backbone(images)] == [(4, 16), (4, 24)]


def test_the_model_is_ready_for_a_runner(source, nets):
    model = load_published(source)
    model.init_weights()  # what a runner calls before training
    assert_same(model.state_dict(), nets['qsd'])
    inputs = [torch.randint(0, 256, (2, 40, 40), dtype=torch.uint8)]
    assert model.test_step(dict(inputs=inputs))[0].pred_score.shape == (CLASSES,)


def test_colour_images_are_normalised_as_in_imagenet(source):
    checkpoint = torch.load(source, weights_only=False)
    checkpoint['model']['downsample1_1.encode_conv.weight'] = torch.rand(8, 3, 7, 7)
    torch.save(checkpoint, source)
    preprocessor = load_published(source).data_preprocessor
    image = torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1).expand(3, 40, 40)  # BGR, as images are read
    assert preprocessor(dict(inputs=[image]))['inputs'].abs().max() < 1e-4


def test_the_default_dtype_is_left_alone(source, images):
    before = torch.get_default_dtype()
    model = load_published(source).double()
    assert torch.get_default_dtype() == before
    with torch.no_grad():
        assert model(images.double()).dtype == torch.float64


def test_mmengine_loads_the_converted_file_into_a_model_from_a_config(tmp_path, source, nets):
    from mmengine.runner import load_checkpoint
    from mmpretrain.registry import MODELS

    out = tmp_path / 'out.pth'
    convert_file(source, out)
    meta = torch.load(out, weights_only=True)['meta']
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(
                type='SpikeDrivenTransformer',
                arch=meta['arch'],
                in_channels=meta['in_channels'],
                weight_bits=meta['weight_bits'],
            ),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(
                type='SpikeLinearClsHead',
                num_classes=meta['num_classes'],
                in_channels=24,
                weight_bits=meta['weight_bits'],
                neuron=FAMILIES[meta['family']].head_neuron,
            ),
        )
    )
    load_checkpoint(model, str(out), map_location='cpu', strict=True)
    assert_same(model.state_dict(), nets['qsd'])


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(out_indices=(0, 1)), 'out_indices='),
        (dict(out_indices=()), 'out_indices='),
        (dict(out_indices=(7, 4)), 'out_indices='),
        (dict(in_channels=3), 'in_channels=3'),
        (dict(weight_bits=5), 'weight_bits=5'),
        (dict(arch='qsd-8m'), 'widths'),
        (dict(weights='best'), 'weights='),
        (dict(max_spike_count=0), 'max_spike_count=0'),
    ],
)
def test_arguments_out_of_range_are_refused(source, options, words):
    with pytest.raises(ValueError, match=words):
        load_published(source, **options)


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda c: c['state_dict'].pop('head.fc.synapse.bias'), 'lacks head.fc.synapse.bias'),
        (lambda c: c['state_dict'].update(x=torch.ones(1)), 'has left over x'),
        (lambda c: c.update(state_dict=3), 'no dict of tensors'),
        (lambda c: c['meta'].update(arch='qsd-99m'), 'qsd-99m'),
        (lambda c: c['meta'].update(in_channels='3'), 'in_channels'),
        (lambda c: c['meta'].update(num_classes=0), 'num_classes'),
        (lambda c: c['meta'].pop('weight_bits'), 'weight_bits=None'),
    ],
)
def test_a_converted_file_that_was_tampered_with_is_refused(tmp_path, source, change, words):
    out = tmp_path / 'out.pth'
    convert_file(source, out)
    checkpoint = torch.load(out, weights_only=True)
    change(checkpoint)
    with pytest.raises(ValueError, match=words):
        read_converted(checkpoint)
