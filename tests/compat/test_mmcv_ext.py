"""The stand-in for mmcv's compiled ops, against plain implementations, through mmcv's own wrappers."""

from pathlib import Path

import fresh_python
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsdt_mm import compat
from qsdt_mm.compat import mmcv_ext

if compat.ops_are_compiled():
    pytest.skip('mmcv has compiled ops: the stand-in is not in use', allow_module_level=True)

from mmcv import ops  # noqa: E402

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)
ROOT = Path(__file__).parents[2]


def random_boxes(seed, count, size=20.0):
    """Boxes of which some touch, repeat or have no area."""
    source = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, int(size), (count, 4), generator=source).double()
    boxes = torch.cat([torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])], 1)
    scores = torch.randperm(count, generator=source).double() / max(count, 1)  # no ties
    return boxes, scores


def iou(a, b, offset):
    """Of two boxes, in plain Python."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    inter = max(width, 0) * max(height, 0)
    area = sum((x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b))
    return inter / (area - inter) if area - inter > 0 else 0.0


def plain_nms(boxes, scores, threshold, offset):
    boxes, kept = boxes.tolist(), []
    for i in scores.argsort(descending=True).tolist():
        if all(iou(boxes[i], boxes[j], offset) <= threshold for j in kept):
            kept.append(i)
    return kept


@PROPERTY
@given(seed=st.integers(0, 9999), count=st.integers(0, 30), threshold=st.floats(0.05, 0.95), offset=st.integers(0, 1))
def test_nms(seed, count, threshold, offset):
    boxes, scores = random_boxes(seed, count)
    dets, kept = ops.nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == plain_nms(boxes, scores, threshold, offset)
    assert torch.equal(dets, torch.cat([boxes[kept], scores[kept, None]], 1))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nms_types(dtype):
    boxes, scores = random_boxes(3, 20)
    _, kept = ops.nms(boxes.to(dtype), scores.to(dtype), 0.4)
    assert kept.tolist() == plain_nms(boxes, scores, 0.4, 0)


@PROPERTY
@given(seed=st.integers(0, 9999), count=st.integers(0, 30), threshold=st.floats(0.05, 0.95))
def test_nms_match(seed, count, threshold):
    """Groups are those of NMS, each with what goes for the box that is kept; a box of no area is alone."""
    boxes, scores = random_boxes(seed, count)
    left, wanted = scores.argsort(descending=True).tolist(), []
    while left:
        best = left[0]
        group = [best] + [i for i in left[1:] if iou(boxes[i].tolist(), boxes[best].tolist(), 0) >= threshold]
        wanted.append(group)
        left = [i for i in left if i not in group]
    dets = torch.cat([boxes, scores[:, None]], 1)
    assert [group.tolist() for group in ops.nms_match(dets, threshold)] == wanted
    assert [group.tolist() for group in ops.nms_match(dets.numpy(), threshold)] == wanted


@pytest.mark.parametrize('offset', [0, 1])
def test_bbox_overlaps(offset):
    one, other = (random_boxes(seed, 12)[0] + torch.tensor([0.0, 0, 1, 1]) for seed in (0, 1))
    wanted = torch.tensor([[iou(a, b, offset) for b in other.tolist()] for a in one.tolist()], dtype=torch.float64)
    assert torch.allclose(ops.bbox_overlaps(one, other, offset=offset), wanted) and (wanted > 0).any()
    assert torch.allclose(ops.bbox_overlaps(one, other, aligned=True, offset=offset), wanted.diagonal())
    inside = torch.tensor([[5.0, 5, 6, 6]]).double()
    assert ops.bbox_overlaps(inside, inside + torch.tensor([-1.0, -1, 1, 1]), 'iof', offset=offset).item() == 1
    assert torch.allclose(ops.bbox_overlaps(one.half(), other.half(), offset=offset).double(), wanted, atol=1e-3)


def test_batched_nms_keeps_classes_apart():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0])
    dets, kept = ops.batched_nms(boxes, scores, labels, dict(type='nms', iou_threshold=0.5))
    assert kept.tolist() == [0, 1] and dets[:, 4].tolist() == pytest.approx([0.9, 0.8])


def plain_soft_nms(boxes, scores, threshold, sigma, min_score, method, offset):
    left = [[i, box, score] for i, (box, score) in enumerate(zip(boxes.tolist(), scores.tolist()))]
    taken = []
    while left:
        best = max(left, key=lambda item: item[2])
        left.remove(best)
        taken.append((best[0], best[2]))
        for item in left:
            overlap = iou(best[1], item[1], offset)
            if method == 'gaussian':
                item[2] *= np.exp(-overlap * overlap / sigma)
            elif overlap > threshold:
                item[2] *= 1 - overlap if method == 'linear' else 0
        left = [item for item in left if item[2] >= min_score]
    return taken


@PROPERTY
@given(seed=st.integers(0, 9999), count=st.integers(0, 15), method=st.sampled_from(['naive', 'linear', 'gaussian']))
def test_soft_nms(seed, count, method):
    boxes, scores = random_boxes(seed, count)
    boxes = boxes + torch.tensor([0.0, 0, 1, 1])  # some area: the overlap of two points is not a number
    scores = scores * 0.9 + 0.1
    dets, kept = ops.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method)
    expected = plain_soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, 0)
    assert kept.tolist() == [i for i, _ in expected]
    assert dets[:, 4].tolist() == pytest.approx([score for _, score in expected])


def bilinear(image, y, x):
    """One sample of ``(H, W)``, by RoIAlign's rules at the border."""
    height, width = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return image.new_zeros(())
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = (y - top if top < height - 1 else 0.0), (x - left if left < width - 1 else 0.0)
    return (1 - dy) * ((1 - dx) * image[top, left] + dx * image[top, right]) + dy * (
        (1 - dx) * image[bottom, left] + dx * image[bottom, right]
    )


def plain_roi_align(features, rois, size, scale, ratio, aligned):
    out = []
    for roi in rois.tolist():
        shift = 0.5 if aligned else 0.0
        x1, y1, x2, y2 = (v * scale - shift for v in roi[1:])
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        bin_w, bin_h = width / size, height / size
        nx = ratio if ratio > 0 else int(np.ceil(width / size))
        ny = ratio if ratio > 0 else int(np.ceil(height / size))
        for channel in features[int(roi[0])]:
            for i in range(size):
                for j in range(size):
                    total = features.new_zeros(())
                    for a in range(ny):
                        for b in range(nx):
                            y, x = y1 + i * bin_h + (a + 0.5) * bin_h / ny, x1 + j * bin_w + (b + 0.5) * bin_w / nx
                            total = total + bilinear(channel, y, x)
                    out.append(total / max(nx * ny, 1))
    return torch.stack(out).view(len(rois), features.shape[1], size, size)


ROIS = [[0, 1, 2, 9, 11], [1, -3, -2, 6, 5], [0, 4, 4, 4, 4], [1, 10, 2, 30, 40], [0, 3, 3, 3.5, 3.4]]


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align(aligned, ratio):
    """Values and gradients; rois inside, across the border, of no area, far outside and tiny."""
    features = torch.randn(2, 2, 7, 8, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor(ROIS, dtype=torch.float64)
    out = ops.roi_align(features, rois, (3, 3), 0.5, ratio, 'avg', aligned)
    expected = plain_roi_align(features, rois, 3, 0.5, ratio, aligned)
    assert torch.allclose(out, expected, atol=1e-12)
    weight = torch.randn_like(out)
    (gradient,) = torch.autograd.grad((out * weight).sum(), features)
    (wanted,) = torch.autograd.grad((expected * weight).sum(), features)
    assert torch.allclose(gradient, wanted, atol=1e-12)


def test_roi_align_gradcheck():
    features = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 0.3, 0.7, 4.1, 3.9]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: ops.roi_align(x, rois, (2, 2), 1.0, 2, 'avg', True), features)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_roi_align_types_and_nothing(dtype):
    features = torch.randn(2, 3, 8, 8).to(dtype).requires_grad_()
    rois = torch.tensor(ROIS).to(dtype)
    out = ops.roi_align(features, rois, (2, 2), 1.0, 2)
    expected = ops.roi_align(features.detach().double(), rois.double(), (2, 2), 1.0, 2)
    assert out.dtype is dtype and torch.allclose(out.double(), expected, atol=0.05)
    out.sum().backward()
    assert features.grad.dtype is dtype and features.grad.isfinite().all()
    empty = ops.roi_align(features, rois[:0], (2, 2), 1.0, 2)
    empty.sum().backward()
    assert empty.shape == (0, 3, 2, 2)


@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_focal_loss(weighted):
    """Against the definition, class by class; the last target is background."""
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 1, 0])
    weight = torch.rand(3, dtype=torch.float64) if weighted else None
    p = logits.sigmoid()
    one_hot = torch.nn.functional.one_hot(target, 4)[:, :3].double()
    expected = -0.25 * one_hot * (1 - p) ** 2 * p.log() - 0.75 * (1 - one_hot) * p**2 * (1 - p).log()
    if weighted:
        expected = expected * torch.cat([weight, torch.ones(1).double()])[target][:, None]
    loss = ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, weight, 'sum')
    assert torch.allclose(loss, expected.sum())
    (gradient,) = torch.autograd.grad(loss, logits)
    (wanted,) = torch.autograd.grad(expected.sum(), logits)
    assert torch.allclose(gradient, wanted)


def test_focal_loss_of_certain_logits_is_finite():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = ops.sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, None, 'sum')
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_other_ops_say_what_is_missing():
    with pytest.raises(NotImplementedError, match='op border_align_forward has no stand-in: .* MMCV_WITH_OPS=1'):
        mmcv_ext.border_align_forward(1)
    with pytest.raises(AttributeError):
        _ = mmcv_ext.__path__


def run(code):
    done = fresh_python.run(['-c', code], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_compiled_ops_win(tmp_path):
    """A compiled module, if there is one where mmcv lies, is found before the stand-in."""
    code = f"""
import sys, types, importlib.abc, importlib.util
import qsdt_mm
class Compiled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == 'mmcv._ext':
            return importlib.util.spec_from_file_location(name, {str(tmp_path / 'real.py')!r})
sys.meta_path.insert(2, Compiled())
import mmcv._ext
print(mmcv._ext.__file__, qsdt_mm.compat.ops_are_compiled())
"""
    (tmp_path / 'real.py').write_text('')
    assert run(code) == f'{tmp_path / "real.py"} True'


def test_mmdet_imports():
    assert (
        run('import qsdt_mm, mmdet.models; from mmdet.models import MaskRCNN; print(MaskRCNN.__name__)') == 'MaskRCNN'
    )
