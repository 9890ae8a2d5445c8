"""The tools and the demo on a segmenter: training, inference modes, energy of neck and head, comparison, pictures."""

import importlib.util
import json
import pickle

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy

pytest.importorskip('mmseg')

CONFIG = """
_base_ = {base!r}
model = dict(
    backbone=dict(arch=dict(widths=(4, 8, 8, 8, 8), depths=(0, 1, 1, 1, 1))),
    neck=dict(in_channels=[4, 8, 8, 8], out_channels=8),
    decode_head=dict(in_channels=[8, 8, 8, 8], channels=8),
)
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(data_root={root!r}))
val_dataloader = dict(num_workers=0, dataset=dict(data_root={root!r}))
test_dataloader = dict(num_workers=0, dataset=dict(data_root={root!r}))
train_cfg = dict(max_iters=2, val_interval=2)
"""


@pytest.fixture(scope='module')
def segmenter(tmp_path_factory):
    """A config of a tiny network on images of 97 x 131 px, and a checkpoint trained for two iterations."""
    root = tmp_path_factory.mktemp('cells')
    numbers = np.random.default_rng(0)
    for part in ('train', 'val'):
        for kind in ('images', 'semantic'):
            (root / kind / part).mkdir(parents=True)
        for i in range(2):
            label = np.zeros((97, 131), np.uint8)
            label[20 : 50 + i, 30:70] = 1
            picture = numbers.integers(0, 100, (97, 131, 3), dtype=np.uint8) + 100 * label[..., None]
            assert cv2.imwrite(str(root / f'images/{part}/{i}.png'), picture)
            assert cv2.imwrite(str(root / f'semantic/{part}/{i}.png'), label)
    config = root / 'tiny.py'
    base = toy.ROOT / 'configs/segmentation/semantic-fpn_qsd-small_1xb8-500i_cells-256x256.py'
    config.write_text(CONFIG.format(base=str(base), root=str(root)))
    assert toy.tool('train').main([str(config), '--work-dir', str(root / 'run')]) == 0
    return config, root / 'run/iter_2.pth'


def test_modes_are_bit_equal_on_odd_sizes(segmenter, tmp_path):
    found = []
    for mode in ('integer', 'spike'):
        out = tmp_path / f'{mode}.pkl'
        words = [*segmenter, '--work-dir', tmp_path / 'run', '--inference', mode, '--out', out]
        assert toy.tool('test').main([str(word) for word in words]) == 0
        with open(out, 'rb') as file:
            found.append([sample['pred_sem_seg']['data'] for sample in pickle.load(file)])
    assert [tuple(one.shape) for one in found[0]] == [(1, 97, 131)] * 2
    assert all(torch.equal(integer, spike) for integer, spike in zip(*found))


def test_energy_counts_neck_and_head(segmenter, tmp_path):
    tool = toy.tool('analysis_tools/energy')
    assert tool.main([*map(str, segmenter), '--images', '2', '--json', str(tmp_path / 'e.json')]) == 0
    names = [row['name'] for row in json.loads((tmp_path / 'e.json').read_text())['layers']]
    for part in ('backbone.', 'neck.', 'decode_head.scale_heads.', 'decode_head.conv_seg'):
        assert any(name.startswith(part) for name in names), part


def test_comparison(segmenter, tmp_path):
    tool = toy.tool('analysis_tools/compare_inference')
    assert tool.main([*map(str, segmenter), '--json', str(tmp_path / 'c.json')]) == 0
    figures = json.loads((tmp_path / 'c.json').read_text())
    assert figures['images'] == 2 and figures['integer_equals_spike'] is True
    assert figures['decisions_are'] == 'pixels' and figures['decisions'] == 2 * 97 * 131
    assert figures['same_decisions'] > 0.99 * figures['decisions']


def test_demo_overlays_the_map(segmenter, tmp_path):
    spec = importlib.util.spec_from_file_location('image_demo', toy.ROOT / 'demo/image_demo.py')
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    photo = segmenter[0].parent / 'images/val/0.png'
    assert demo.main([str(word) for word in (photo, *segmenter, '--out-dir', tmp_path)]) == 0
    found = cv2.imread(str(tmp_path / '0_found.png'))
    assert found.shape[0] >= 97 and not np.array_equal(found[:97, :131], cv2.imread(str(photo)))
    assert (tmp_path / '0_firing.png').is_file()
    labels = cv2.imread(str(tmp_path / '0_labels.png'), cv2.IMREAD_GRAYSCALE)
    rows = json.loads((tmp_path / '0_found.json').read_text())['pixels']
    assert labels.shape == (97, 131) and {row['label']: row['pixels'] for row in rows} == {
        label: int((labels == label).sum()) for label in np.unique(labels).tolist()
    }
