"""Classification heads: what they compute, and time steps that do not fit the backbone's are refused."""

import pytest
import torch
from trained_networks import exact_forms

pytest.importorskip('mmpretrain')

from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402

from qsdt_mm.analysis import audit  # noqa: E402
from qsdt_mm.errors import InputError  # noqa: E402
from qsdt_mm.models.quantization import LSQ  # noqa: E402

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


class TestTwoHeads:
    @staticmethod
    def head(**options):
        torch.manual_seed(0)
        options.setdefault('loss', dict(type='CrossEntropyLoss'))
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return MODELS.build(dict(type='SpikeTwoHeadClsHead', num_classes=3, in_channels=16, **options))

    @pytest.mark.parametrize('time_steps', [1, 2])
    def test_the_first_sees_membranes_and_the_second_spikes(self, time_steps):
        head, feature = self.head(time_steps=time_steps), 2 * torch.randn(4, 16)
        main, dist = head.both((feature,))
        assert torch.equal(main, head.fc.synapse(feature).unflatten(0, (time_steps, -1)).mean(0))
        if time_steps == 1:
            count = (feature + 0.5).floor().clamp(0, 4)  # threshold and scale 1
            assert torch.equal(dist, head.fc_dist.synapse(count))
        assert head.fc_dist.neuron.time_steps == time_steps
        assert torch.equal(head((feature,)), (main + dist) / 2)

    def test_both_learn_from_the_labels(self):
        head, feature = self.head(cal_acc=True), 2 * torch.randn(6, 16)
        samples = [DataSample().set_gt_label(i % 3) for i in range(6)]
        losses = head.loss((feature,), samples)
        labels = torch.arange(6) % 3
        main, dist = head.both((feature,))
        expected = [torch.nn.functional.cross_entropy(logits, labels) for logits in (main, dist)]
        torch.testing.assert_close(losses['loss'], sum(expected) / 2)
        hits = ((main + dist).argmax(1) == labels).float().mean().item() * 100
        assert float(losses['accuracy_top-1'][0]) == pytest.approx(hits)
        losses['loss'].backward()
        assert all(p.grad.any() for p in head.parameters())

    def test_predictions_are_of_the_mean(self):
        head, feature = self.head(), torch.randn(2, 16)
        scores = [sample.pred_score for sample in head.predict((feature,))]
        assert torch.allclose(torch.stack(scores), head((feature,)).softmax(1))

    def test_weights_of_both_can_be_low_bit(self):
        head = self.head(weight_bits=4)
        assert [m.bits for m in head.modules() if isinstance(m, LSQ)] == [4, 4]

    def test_views_of_it(self):
        """The audit names what membranes drive; integer and spike inference are equal."""
        head = self.head(weight_bits=4).eval()
        assert {row.name: row.driven_by for row in audit(head)} == {
            'fc.synapse': 'membrane',
            'fc_dist.synapse': 'spikes',
        }
        feature = 2 * torch.randn(4, 16)
        integer, *spiking = (form((feature,)) for form in exact_forms(head).values())
        assert len(spiking) == 2 and all(torch.equal(integer, spike) for spike in spiking)
        torch.testing.assert_close(integer, head((feature,)), rtol=1e-5, atol=1e-5)
