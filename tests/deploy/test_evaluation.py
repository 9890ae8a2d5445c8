"""Plans in the place of networks: the libraries' predictions are made of the plan's outputs."""

import pytest
import torch
from deployed import pictures
from deployed_tasks import MEAN, STD, built, detector, samples, segmenter
from torch import nn
from torch.utils._pytree import tree_flatten

import qsdt_mm
from qsdt_mm.deploy import plan
from qsdt_mm.deploy.evaluation import calibration_pixels, check_fit, evaluated, head_of, pixels_of
from qsdt_mm.errors import InputError


class Preprocessor(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.tensor(MEAN).view(-1, 1, 1))
        self.register_buffer('std', torch.tensor(STD).view(-1, 1, 1))

    def forward(self, data, training):
        return dict(inputs=(data['inputs'].float() - self.mean) / self.std)


def test_pixels_come_back_from_what_is_normalised():
    model = nn.Module()
    model.data_preprocessor = Preprocessor()
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    inputs = model.data_preprocessor(dict(inputs=images), False)['inputs']
    assert torch.equal(pixels_of(model, inputs), images)
    inputs = nn.functional.pad(inputs, (0, 3))  # with zeros, which stand for the mean
    assert pixels_of(model, inputs)[0, :, 0, -1].tolist() == [124, 116, 104]
    for wrong in (images.float() + 0.5, images.float() + 1, -images.float()):
        with pytest.raises(InputError, match='whole pixels'):
            pixels_of(model, (wrong - model.data_preprocessor.mean) / model.data_preprocessor.std)
    batches = [dict(inputs=images), dict(inputs=images[..., 1:])]
    with pytest.raises(InputError, match='3 x 16 x 15, 3 x 16 x 16'):
        calibration_pixels(model, batches)
    assert calibration_pixels(model, batches[:1] * 2).shape == (4, 3, 16, 16)


@pytest.mark.slow
@pytest.mark.parametrize('make', [segmenter, detector])
def test_predictions_are_of_the_outputs_of_the_plan(make, tmp_path):
    library, config, model = built(make)
    images = pictures(2, size=(64, 64))
    data = dict(inputs=list(images), data_samples=samples(library, images))
    calibration = calibration_pixels(model, [data])
    assert torch.equal(calibration, images.flip(1))
    steps = plan(model, calibration)
    stand_in = evaluated(model, steps)
    outputs = steps(calibration)
    found = stand_in.test_step(data)
    if library == 'mmseg':
        logits = nn.functional.interpolate(outputs, (64, 64), mode='bilinear', align_corners=False)
        assert torch.equal(torch.stack([sample.seg_logits.data for sample in found]), logits)
    else:
        expected = model.bbox_head.predict_by_feat(*outputs, batch_img_metas=[s.metainfo for s in found], rescale=True)
        for sample, other in zip(found, expected):
            assert len(other.scores) and torch.equal(sample.pred_instances.scores, other.scores)
            assert torch.equal(sample.pred_instances.bboxes, other.bboxes)
    assert model.extract_feat.__func__ is type(model).extract_feat  # the model itself is left alone
    # Both kinds come back from a folder.
    qsdt_mm.save_pretrained(
        model, tmp_path / 'net', kind='both', images=calibration, config=dict(model=config, default_scope=library)
    )
    again = qsdt_mm.from_pretrained(tmp_path / 'net', kind='deploy')(calibration)
    assert all(torch.equal(a, b) for a, b in zip(tree_flatten(outputs)[0], tree_flatten(again)[0], strict=True))
    network = qsdt_mm.from_pretrained(tmp_path / 'net', kind='trainable')
    with torch.no_grad():
        inputs = model.data_preprocessor(data, False)['inputs']
        raw, other = (tree_flatten(net(inputs, mode='tensor'))[0] for net in (model, network))
    assert all(torch.equal(a, b) for a, b in zip(raw, other, strict=True))
    assert network.preprocessing['channels'] == 'RGB' and network.preprocessing['size'] == [64, 64]


def test_two_stage_detectors_are_refused():
    model = nn.Module()
    model.rpn_head = model.bbox_head = nn.Identity()
    model.extract_feat = None
    with pytest.raises(InputError, match='no single head'):
        head_of(model)


def test_a_plan_of_other_outputs_or_colours_is_refused():
    class Model(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.data_preprocessor, self.head = Preprocessor(), nn.Linear(3, classes)

        def extract_feat(self, inputs):
            return inputs.mean((2, 3))

        def forward(self, inputs, mode):
            return self.head(self.extract_feat(inputs))

    class Steps(nn.Module):
        shape, preprocessing = (3, 8, 8), dict(channels='BGR')

        def forward(self, pixels):
            return pixels.new_zeros(len(pixels), 4)

    model, steps = Model(4).train(), Steps()
    check_fit(model, steps)
    assert model.training
    with pytest.raises(InputError, match='the plan gives outputs of 4, the network of the configuration 5'):
        check_fit(Model(5), steps)
    steps.preprocessing = dict(channels='RGB')
    with pytest.raises(InputError, match='takes images in RGB, the configuration makes them BGR'):
        check_fit(model, steps)
