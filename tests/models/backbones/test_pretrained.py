"""Pretrained weights: all of them, or one line that says what does not fit."""

import pytest
import torch

from qsdt_mm import SpikeDrivenTransformer

ARCH = dict(family='qsd', widths=(4, 4, 8, 8, 8), depths=(1, 1, 1, 1, 1), num_heads=2)


@pytest.fixture
def classifier(tmp_path):
    """A checkpoint of a network with a head, and its backbone."""
    source = SpikeDrivenTransformer(ARCH)
    state = {f'backbone.{k}': v for k, v in source.state_dict().items()}
    file = str(tmp_path / 'classifier.pth')
    torch.save(dict(state_dict={**state, 'head.fc.weight': torch.ones(3, 8)}), file)
    return source, file


def load(file, prefix=None, **kwargs):
    model = SpikeDrivenTransformer(
        kwargs.pop('arch', ARCH), init_cfg=dict(type='Pretrained', checkpoint=file, prefix=prefix), **kwargs
    )
    model.init_weights()
    return model


def test_a_prefix_takes_the_backbone(classifier):
    source, file = classifier
    model = load(file, 'backbone.')
    assert all(torch.equal(model.state_dict()[k], v) for k, v in source.state_dict().items())


def test_a_forgotten_prefix_is_named(classifier):
    with pytest.raises(ValueError, match=r"holds them under 'backbone\.': add prefix='backbone\.' to init_cfg") as e:
        load(classifier[1])
    assert '\n' not in str(e.value) and '1 unknown' not in str(e.value)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (dict(arch=dict(ARCH, depths=(1, 1, 1, 1, 2))), r'missing \(stages\.4\.blocks\.1'),
        (dict(arch=dict(ARCH, depths=(1, 1, 1, 1, 0))), r'unknown to it \(stages\.4\.blocks\.0'),
        (dict(in_channels=2), r'1 of another shape \(stages\.0\.downsample\.synapse\.weight\)$'),
    ],
)
def test_what_does_not_fit_is_refused(classifier, arguments, said):
    with pytest.raises(ValueError, match=said) as e:
        load(classifier[1], 'backbone.', **arguments)
    assert '\n' not in str(e.value)


def test_fine_tuning_adds_steps_and_gains(tmp_path):
    source = SpikeDrivenTransformer(dict(ARCH, layer_scale=None), weight_bits=32)
    file = str(tmp_path / 'weights.pth')
    torch.save(source.state_dict(), file)
    assert load(file).stages[4].blocks[0][0].gain.weight.eq(1e-6).all()
