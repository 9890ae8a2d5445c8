"""Classification heads: time steps that do not fit the backbone's are refused."""

import pytest
import torch

pytest.importorskip('mmpretrain')

from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402

from qsdt_mm.engine.errors import InputError  # noqa: E402

ARCH = dict(family='qsd', widths=(4, 4, 8, 8, 16), depths=(0, 0, 0, 1, 0), num_heads=2)


def classifier(time_steps, head_steps, time_mean=False, channels=2):
    """A classifier of three classes."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=dict(
                    type='SpikeDrivenTransformer',
                    arch=ARCH,
                    in_channels=channels,
                    time_steps=time_steps,
                    time_mean=time_mean,
                ),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='SpikeLinearClsHead', num_classes=3, in_channels=16, time_steps=head_steps),
            )
        )


def batch(samples, steps):
    return torch.randn(samples, steps, 2, 32, 32), [DataSample().set_gt_label(i % 3) for i in range(samples)]


@pytest.mark.parametrize(('head_steps', 'time_mean'), [(4, False), (1, True)])
def test_time_steps_that_fit(head_steps, time_mean):
    model = classifier(4, head_steps, time_mean)
    images, samples = batch(3, 4)
    assert model(images, samples, mode='loss')['loss'].isfinite()
    predictions = model.eval()(images, samples, mode='predict')
    assert len(predictions) == 3 and predictions[0].pred_score.shape == (3,)


@pytest.mark.parametrize(('head_steps', 'time_mean'), [(1, False), (2, False), (4, True), (2, True)])
def test_time_steps_that_do_not_fit_are_one_line(head_steps, time_mean):
    model = classifier(4, head_steps, time_mean)
    images, samples = batch(4, 4)
    for mode in ('loss', 'predict'):
        with pytest.raises(InputError) as error:
            model(images, samples, mode=mode)
        rows = 4 if time_mean else 16
        text = str(error.value)
        assert text.startswith(f'head.time_steps={head_steps} does not fit the backbone: {rows} features for 4 samples')
        assert '\n' not in text


def test_logits_are_the_mean_over_time():
    torch.manual_seed(0)
    model = classifier(3, 3).eval()
    images, _ = batch(2, 3)
    (feature,) = model.extract_feat(images)
    expected = model.head.fc(feature).unflatten(0, (3, 2)).mean(0)
    assert torch.equal(model(images), expected)


def test_features_that_do_not_divide_are_one_line():
    model = classifier(4, 3, time_mean=True)
    images, samples = batch(4, 4)
    with pytest.raises(InputError, match='head.time_steps=3 does not divide 4 features'):
        model(images, samples, mode='loss')
