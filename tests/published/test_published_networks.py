"""Published detectors, segmentors and networks for events: the outputs of the published implementations, and back."""

from itertools import chain

import pytest
import torch
from precisions import precisions_and_forms

from qsdt_mm import load_published
from qsdt_mm.inference import convert as convert_inference
from qsdt_mm.published.files import convert_file

DETECTORS = ['det_maskrcnn_public', 'det_maskrcnn_e_public', 'det_retina_public']
SEGMENTORS = ['seg_fpn_public', 'seg_fpn_qsd_public']
EVENTS = ['hardvs_public', 'dvs_if_public']
precisions = pytest.mark.parametrize('dtype, bound', [(torch.float64, 1e-6), (torch.float32, 1e-3)])


def relative_error(ours, theirs):
    assert ours.shape == theirs.shape
    return ((ours.double() - theirs).abs().max() / theirs.abs().max()).item()


def largest(ours, theirs):
    return max(relative_error(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.fixture
def golden_file(golden, tmp_path):
    """A published checkpoint, as it is or converted, and what it computes."""

    def find(name, converted, **options):
        path = golden(f'{name}.pth')
        if converted:
            convert_file(path, tmp_path / 'out.pth', **options)
            path = tmp_path / 'out.pth'
        return path, torch.load(golden(f'{name}_io.pt'), weights_only=True)

    return find


@torch.no_grad()
def detector_outputs(model, recorded, dtype):
    """What a detector computes of the recorded inputs, by the recorded names, time first."""
    features = model.backbone(recorded['input'].to(dtype))
    maps = model.neck(features)
    dense, names = (
        (model.rpn_head, ('rpn_cls', 'rpn_reg'))
        if hasattr(model, 'rpn_head')
        else (model.bbox_head, ('retina_cls', 'retina_reg'))
    )
    scores, boxes = dense(maps)
    outputs = dict(backbone=features, neck=maps, **dict(zip(names, (scores, boxes))))
    outputs = {name: [level[None] for level in max_spike_count] for name, max_spike_count in outputs.items()}
    if 'bbox_roi' in recorded:
        cls_score, bbox_pred = model.roi_head.bbox_head(recorded['bbox_roi'][0].to(dtype))
        outputs.update(cls_score=[cls_score[None]], bbox_pred=[bbox_pred[None]])
        outputs.update(mask_pred=[model.roi_head.mask_head(recorded['mask_roi'][0].to(dtype))])
    anchors = dense.prior_generator.grid_priors([level.shape[-2:] for level in maps], device='cpu')
    return outputs, anchors


@precisions_and_forms
@pytest.mark.parametrize('name', DETECTORS)
def test_golden_detectors(golden_file, name, dtype, bound, converted):
    pytest.importorskip('mmdet')
    path, wanted = golden_file(name, converted)
    outputs, anchors = detector_outputs(load_published(path).to(dtype), wanted, dtype)
    errors = {
        key: largest(outputs[key], theirs if isinstance(theirs, list) else [theirs])
        for key, theirs in wanted['output'].items()
    }
    assert errors.keys() == outputs.keys() and max(errors.values()) < bound, errors
    assert all(torch.equal(one, other) for one, other in zip(anchors, wanted['anchors'], strict=True))


@precisions
@pytest.mark.parametrize('name', DETECTORS)
def test_golden_detectors_as_they_are_trained(golden_file, name, dtype, bound):
    pytest.importorskip('mmdet')
    path, wanted = golden_file(name, False)
    model = load_published(path, neck_max_spike_count=4)
    outputs, _ = detector_outputs(model.to(dtype), wanted, dtype)
    errors = {key: largest(outputs[key], theirs) for key, theirs in wanted['output_neck4'].items()}
    assert len(errors) == 3 and max(errors.values()) < bound, errors
    assert {neuron.max_spike_count for n, neuron in model.neck.named_modules() if n.endswith('neuron')} == {4}


def test_the_shared_neuron_of_retinanet_carries_over(golden_file):
    """Without it the boxes are those that were recorded with the neuron reset in between."""
    pytest.importorskip('mmdet')
    path, wanted = golden_file('det_retina_public', False)
    model = load_published(path).double()
    head = model.bbox_head
    head.retina_cls.neuron.time_steps, head.shared_neuron = 1, False
    outputs, _ = detector_outputs(model, wanted, torch.float64)
    assert largest(outputs['retina_cls'], wanted['output']['retina_cls']) < 1e-6
    assert largest(outputs['retina_reg'], wanted['retina_reg_no_carry']) < 1e-6
    assert largest(outputs['retina_reg'], wanted['output']['retina_reg']) > 0.1


@torch.no_grad()
def segmentor_outputs(model, image):
    features = model.backbone(image)
    maps = model.neck(features)
    whole = model.encode_decode(image, [dict(img_shape=image.shape[-2:])])
    return dict(backbone=features, neck=maps, logits=[model.decode_head(maps)], whole=[whole])


@precisions_and_forms
@pytest.mark.parametrize('name', SEGMENTORS)
def test_golden_segmentors(golden_file, name, dtype, bound, converted):
    pytest.importorskip('mmseg')
    path, wanted = golden_file(name, converted)
    outputs = segmentor_outputs(load_published(path).to(dtype), wanted['input'].to(dtype))
    errors = {
        key: largest(ours, wanted[key] if isinstance(wanted[key], list) else [wanted[key]])
        for key, ours in outputs.items()
    }
    assert max(errors.values()) < bound, errors


@precisions_and_forms
@pytest.mark.parametrize('weights', ['model', 'ema'])
@pytest.mark.parametrize('name', EVENTS)
def test_golden_networks_for_events(golden_file, name, weights, dtype, bound, converted):
    path, wanted = golden_file(name, converted, weights=weights)
    model = load_published(path, (0, 1, 2, 3, 4), **{} if converted else dict(weights=weights)).to(dtype)
    image = wanted['input'].to(dtype)
    with torch.no_grad():
        errors = dict(logits=relative_error(model(image), wanted['output_ema' if weights == 'ema' else 'output']))
        if weights == 'model':
            features = model.backbone(image)
            ours = [feature.unflatten(0, (4, -1)) for feature in (*features, model.neck(features)[-1])]
            errors['features'] = largest(ours, wanted['feats'].values())
    assert max(errors.values()) < bound, errors


def test_har_dvs_does_not_use_the_order_of_its_frames(golden_file):
    path, wanted = golden_file('hardvs_public', False)
    image, backwards = wanted['input'], wanted['input'].flip(1)
    with torch.no_grad():
        model = load_published(path)
        assert torch.equal(
            model.backbone(backwards)[0].unflatten(0, (4, -1)).flip(0).flatten(0, 1), model.backbone(image)[0]
        )
        stateful = load_published(path, stateful=True, spike_worth=1.0)
        assert relative_error(stateful(backwards), stateful(image)) > 0.01


def bits_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize('name', DETECTORS + SEGMENTORS + EVENTS)
def test_integer_and_spike_inference_give_the_same_bits(golden_file, name):
    if name not in EVENTS:
        pytest.importorskip('mmdet' if name in DETECTORS else 'mmseg')
    path, wanted = golden_file(name, False)
    said = []
    for mode in ('integer', 'spike'):
        model = convert_inference(load_published(path), mode, 8)
        if name in DETECTORS:
            said.append(list(chain.from_iterable(detector_outputs(model, wanted, torch.float32)[0].values())))
        elif name in SEGMENTORS:
            said.append(list(chain.from_iterable(segmentor_outputs(model, wanted['input']).values())))
        else:
            with torch.no_grad():
                said.append([model(wanted['input'])])
    assert bits_equal(*said) and all(output.abs().max() > 0 for output in said[0])


@pytest.mark.parametrize('name', DETECTORS + SEGMENTORS + EVENTS)
def test_spike_inference_in_double_precision_is_the_published_network(golden_file, name):
    if name not in EVENTS:
        pytest.importorskip('mmdet' if name in DETECTORS else 'mmseg')
    path, wanted = golden_file(name, False)
    model = convert_inference(load_published(path).double(), 'spike')
    if name in DETECTORS:
        outputs, theirs = detector_outputs(model, wanted, torch.float64)[0], wanted['output']
    elif name in SEGMENTORS:
        outputs, theirs = segmentor_outputs(model, wanted['input'].double()), wanted
    else:
        with torch.no_grad():
            outputs, theirs = dict(output=[model(wanted['input'].double())]), wanted
    errors = {
        key: largest(ours, theirs[key] if isinstance(theirs[key], list) else [theirs[key]])
        for key, ours in outputs.items()
    }
    assert max(errors.values()) < 1e-6, errors
