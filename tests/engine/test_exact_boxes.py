"""Regions under mixed precision: boxes keep their fractions."""

import pytest
import torch

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it
from qsdt_mm.engine.exact_boxes import keep_boxes_exact
from qsdt_mm.engine.runner import SafeRunner

pytest.importorskip('mmdet')

from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor  # noqa: E402

ALIGN = dict(type='RoIAlign', output_size=3, sampling_ratio=2)
KINDS = dict(single=SingleRoIExtractor, generic=GenericRoIExtractor)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('kind', KINDS)
def test_regions_of_half_precision_are_those_of_the_same_maps_in_float32(kind, dtype):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 4, size, size, generator=generator).to(dtype).requires_grad_() for size in (64, 32)]
    corners = 200 * torch.rand(16, 2, generator=generator)
    boxes = torch.cat([torch.arange(16.0)[:, None] % 2, corners, corners + 9.3], dim=1)
    make = KINDS[kind](roi_layer=ALIGN, out_channels=4, featmap_strides=[4, 8])
    expected = make(tuple(part.float() for part in maps), boxes)
    assert not torch.equal(make(tuple(maps), boxes).float(), expected)  # the library's own way
    keep_boxes_exact(make)
    with torch.autocast('cpu', torch.bfloat16):
        found = make(tuple(maps), boxes)
    assert torch.equal(found, expected)
    found.sum().backward()
    assert all(part.grad is not None and part.grad.dtype == dtype for part in maps)


def test_full_precision_is_left_alone():
    make = SingleRoIExtractor(ALIGN, out_channels=4, featmap_strides=[4])
    maps, boxes = (torch.randn(1, 4, 16, 16, dtype=torch.float64),), torch.tensor([[0.0, 1, 2, 30, 40]])
    before = make(maps, boxes)
    keep_boxes_exact(torch.nn.Sequential(make))
    assert torch.equal(make(maps, rois=boxes), before) and before.dtype == torch.float64


def test_the_runner_does_so():
    runner = SafeRunner.__new__(SafeRunner)  # without its set-up
    runner.cfg = {}
    make = SingleRoIExtractor(ALIGN, out_channels=4, featmap_strides=[4])
    runner.build_model(torch.nn.Sequential(make))
    maps, boxes = (torch.randn(1, 4, 80, 80).bfloat16(),), torch.tensor([[0.0, 201.3, 202.4, 230.1, 240.7]])
    assert torch.equal(make(maps, boxes), make((maps[0].float(),), boxes)) and make(maps, boxes).dtype == torch.float32
