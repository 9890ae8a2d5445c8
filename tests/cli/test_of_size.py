"""Test images of one size alone, for plans, which take one."""

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from qsdt_mm import cli
from qsdt_mm.cli.of_size import keep_images_of_size
from qsdt_mm.errors import InputError

SIZES = [(32, 48), (48, 32), (32, 48), (32, 32)]


@pytest.fixture
def cfg(tmp_path):
    pytest.importorskip('mmseg')
    for i, (height, width) in enumerate(SIZES):
        for folder in ('images', 'labels'):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(np.zeros((height, width), np.uint8)).save(tmp_path / folder / f'{i}.png')
    dataset = dict(
        type='BaseSegDataset',
        metainfo=dict(classes=('a', 'b')),
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix='.png',
        pipeline=[],
    )
    cfg = Config(dict(default_scope='mmseg', test_dataloader=dict(dataset=dataset)))
    cli.import_library(cfg)
    return cfg


def test_others_are_left_out(cfg):
    assert keep_images_of_size(cfg, (32, 48)) == '2 of 4 test images are of 32 x 48: the others are left out'
    assert cfg.test_dataloader.dataset.indices == [0, 2]


def test_of_those_that_were_chosen(cfg):
    cfg.test_dataloader.dataset.indices = [1, 2, 3]
    keep_images_of_size(cfg, (32, 48))
    assert cfg.test_dataloader.dataset.indices == [2]


def test_none_is_one_line(cfg):
    with pytest.raises(InputError, match='none of the 4 test images is of 5 x 5'):
        keep_images_of_size(cfg, (5, 5))
    cfg.default_scope = 'mmdet'
    with pytest.raises(InputError, match='goes with mmpretrain and mmseg'):
        keep_images_of_size(cfg, (32, 48))


def test_images_that_cannot_be_looked_at_are_one_line(cfg, tmp_path):
    (tmp_path / 'images/1.png').write_text('no picture')
    with pytest.raises(InputError, match='cannot be looked at: .*1.png') as caught:
        keep_images_of_size(cfg, (32, 48))
    assert '\n' not in str(caught.value)
