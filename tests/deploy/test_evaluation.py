"""Plans in the place of networks: the libraries' predictions are made of the plan's outputs."""

import pytest
import torch
from deployed import pictures
from torch import nn
from torch.utils._pytree import tree_flatten

import qsdt_mm
from qsdt_mm.deploy import plan
from qsdt_mm.deploy.evaluation import calibration_pixels, check_fit, evaluated, head_of, pixels_of
from qsdt_mm.errors import InputError

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


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


BACKBONE = dict(
    type='SpikeDrivenTransformer',
    arch=dict(family='qsd', widths=(4, 8, 8, 8, 8), depths=(0, 0, 0, 1, 0), num_heads=2),
    weight_bits=4,
)


def segmenter():
    pytest.importorskip('mmseg')
    return 'mmseg', dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=True),
        backbone=dict(BACKBONE, out_indices=(1, 2, 3, 4)),
        neck=dict(type='SpikeFPN', in_channels=[8, 8, 8, 8], out_channels=8, num_outs=4),
        decode_head=dict(
            type='SpikeFPNHead',
            in_channels=[8] * 4,
            in_index=[0, 1, 2, 3],
            feature_strides=[8, 16, 32, 32],
            channels=8,
            num_classes=3,
            norm_cfg=dict(type='BN'),
        ),
        test_cfg=dict(mode='whole'),
    )


def detector():
    pytest.importorskip('mmdet')
    return 'mmdet', dict(
        type='RetinaNet',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=MEAN, std=STD, bgr_to_rgb=True, pad_size_divisor=32),
        backbone=dict(BACKBONE, out_indices=(2, 3, 4)),
        neck=dict(type='SpikeFPN', in_channels=[8, 8, 8], out_channels=8, num_outs=3),
        bbox_head=dict(
            type='SpikeRetinaHead',
            num_classes=2,
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            norm_cfg=dict(type='BN'),
            anchor_generator=dict(
                type='AnchorGenerator', scales=[1], ratios=[1.0], strides=[16, 32, 32], base_sizes=[16, 32, 32]
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        ),
        test_cfg=dict(
            nms_pre=50, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=20
        ),
    )


def samples(library, images):
    if library == 'mmseg':
        from mmseg.structures import SegDataSample as Sample
    else:
        from mmdet.structures import DetDataSample as Sample
    size = tuple(images.shape[-2:])
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size, scale_factor=(1.0, 1.0), batch_input_shape=size)
    return [Sample(metainfo=dict(meta, img_id=i, img_path='')) for i in range(len(images))]


@pytest.mark.slow
@pytest.mark.parametrize('make', [segmenter, detector])
def test_predictions_are_of_the_outputs_of_the_plan(make, tmp_path):
    from importlib import import_module

    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS, DefaultScope

    library, config = make()
    import_module(f'{library}.models')
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope(library):
        model = MODELS.build(ConfigDict(config)).eval()
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
