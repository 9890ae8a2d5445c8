"""The digits: all of them, each in one split, as mmpretrain expects samples."""

import numpy as np
import pytest

pytest.importorskip('mmpretrain')
load_digits = pytest.importorskip('sklearn.datasets').load_digits

from mmengine.registry import DATASETS  # noqa: E402

from qsdt_mm.datasets.digits import Digits  # noqa: E402
from qsdt_mm.errors import InputError  # noqa: E402


@pytest.fixture(scope='module')
def splits():
    return Digits('train'), Digits('test')


def test_the_splits_are_all_digits_and_share_none(splits):
    train, test = splits
    assert (len(train), len(test)) == (1442, 355)
    ours = sorted(
        (int(s['gt_label']), s['img'].tobytes())
        for split in splits
        for s in map(split.get_data_info, range(len(split)))
    )
    digits = load_digits()
    theirs = sorted((int(y), (x * 15).astype(np.uint8).tobytes()) for x, y in zip(digits.images, digits.target))
    assert ours == theirs


def test_each_class_is_split_alike(splits):
    train, test = (np.bincount(split.get_gt_labels(), minlength=10) for split in splits)
    assert (test == (train + test) // 5).all()


def test_samples(splits):
    sample = splits[0][0]
    assert sample['img'].shape == (8, 8, 1) and sample['img'].dtype == np.uint8
    assert max(splits[0][i]['img'].max() for i in range(50)) == 240
    assert splits[0].metainfo['classes'] == tuple('0123456789')


def test_the_name_builds_it_with_a_pipeline():
    built = DATASETS.build(dict(type='Digits', split='test', pipeline=[dict(type='mmpretrain.PackInputs')], indices=3))
    assert isinstance(built, Digits) and len(built) == 3
    packed = built[0]
    assert tuple(packed['inputs'].shape) == (1, 8, 8) and packed['data_samples'].gt_label.item() == 5


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split='val' is not allowed: expected train or test"):
        Digits('val')


def test_without_scikit_learn_it_says_so(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'sklearn.datasets', None)
    with pytest.raises(InputError, match='scikit-learn, which is not installed'):
        Digits('train')
