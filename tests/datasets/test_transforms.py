"""Steps of data pipelines."""

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS

import qsdt_mm  # noqa: F401
from qsdt_mm.datasets.transforms import CheckLabels
from qsdt_mm.errors import InputError


def test_labels_of_the_classes_pass():
    results = dict(gt_seg_map=np.array([[0, 1], [2, 255]], np.uint8), seg_map_path='map.png')
    assert CheckLabels(3)(results) is results
    assert CheckLabels(3, ignore_index=9)(dict(gt_seg_map=np.array([[9, 2]], np.uint8)))


@pytest.mark.parametrize('label', [3, 7, 254])
def test_other_labels_are_refused(label):
    results = dict(gt_seg_map=np.array([[0, 1], [label, 255]], np.uint8), seg_map_path='folder/map.png')
    with pytest.raises(InputError) as error:
        CheckLabels(3)(results)
    assert str(error.value) == (f'folder/map.png has the label {label}: expected 0 to 2, or 255 for pixels to ignore')


def test_a_picture_without_a_map_passes():
    results = dict(img=np.zeros((2, 2, 3), np.uint8))
    assert CheckLabels(3)(results) is results


def test_it_is_found_by_name():
    assert isinstance(TRANSFORMS.build(dict(type='CheckLabels', num_classes=2)), CheckLabels)
