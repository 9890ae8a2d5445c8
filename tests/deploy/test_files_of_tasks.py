"""ONNX files of a segmenter and a detector: predictions are those of the plan, and those that the demo draws."""

import importlib.util

import numpy as np
import pytest
import torch
from deployed import pictures
from deployed_tasks import built, detector, samples, segmenter
from toy_runs import ROOT

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from qsdt_mm.cli.onnx_notes import boxes_of  # noqa: E402
from qsdt_mm.deploy import plan  # noqa: E402
from qsdt_mm.deploy.evaluation import calibration_pixels, evaluated  # noqa: E402
from qsdt_mm.deploy.notes import notes_of, write_notes  # noqa: E402
from qsdt_mm.deploy.onnx import to_onnx  # noqa: E402
from qsdt_mm.deploy.runtimes import Runtime  # noqa: E402

SIZE = (64, 64)


@pytest.fixture(scope='module')
def demo():
    spec = importlib.util.spec_from_file_location('onnx_demo', ROOT / 'demo/onnx_demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(make, task, **known):
    """A model, samples, what is predicted with its plan, and the plan's file."""
    library, _, model = built(make)
    images = pictures(2, size=SIZE)
    data = dict(inputs=list(images), data_samples=samples(library, images))
    steps = plan(model, calibration_pixels(model, [data]))
    file = to_onnx(steps, batch=None)
    boxes = boxes_of(model) if task == 'detection' else None
    write_notes(file, notes_of(steps, task=task, channels='RGB', boxes=boxes, **known))
    return model, data, evaluated(model, steps).test_step(data), file.SerializeToString()


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
def test_a_segmenter(backend, demo):
    pytest.importorskip(backend)
    model, data, expected, content = written(segmenter, 'segmentation')
    runtime = Runtime(content, backend)
    found = evaluated(model, runtime).test_step(data)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.seg_logits.data, other.seg_logits.data)
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
    logits = runtime(torch.stack(data['inputs']).flip(1)).numpy()
    for sample, values in zip(expected, logits, strict=True):
        mine = demo.class_map(values, SIZE, SIZE, SIZE)
        assert (mine == sample.pred_sem_seg.data[0].numpy()).mean() > 0.99


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
def test_a_detector(backend, demo):
    pytest.importorskip(backend)
    model, data, expected, content = written(detector, 'detection')
    runtime = Runtime(content, backend)
    found = evaluated(model, runtime).test_step(data)
    for one, other in zip(expected, found, strict=True):
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(one.pred_instances[key], other.pred_instances[key])
        assert len(one.pred_instances.scores) == 20
    scores, deltas = runtime(torch.stack(data['inputs']).flip(1))
    names, notes = runtime.notes['outputs'], runtime.notes
    for i, sample in enumerate(expected):
        outputs = {
            name: maps[i].numpy() for group, level in zip(names, (scores, deltas)) for name, maps in zip(group, level)
        }
        mine = demo.detections(notes, outputs, SIZE, SIZE, 0.0)
        best = sample.pred_instances
        np.testing.assert_allclose([score for score, _, _ in mine], best.scores.numpy(), atol=1e-6)
        assert [label for _, label, _ in mine] == best.labels.tolist()
        np.testing.assert_allclose([corners for *_, corners in mine], best.bboxes.numpy(), atol=1e-3)


def test_one_map_of_two_classes(demo):
    logits = np.array([[[-2.0, -0.5], [0.5, 2.0]]])
    assert demo.class_map(logits, (2, 2), (2, 2), (2, 2)).tolist() == [[0, 0], [1, 1]]
    assert demo.class_map(logits, (2, 2), (2, 2), (2, 2), 0.3).tolist() == [[0, 1], [1, 1]]
