"""Every segmentation config trains for two iterations and is evaluated, on a folder of images made here."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from config_runs import short_run

import qsdt_mm

pytest.importorskip('mmseg')

from mmengine.config import Config  # noqa: E402

from qsdt_mm import cli  # noqa: E402

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs/segmentation').glob('*512x512.py'))
OUTPUTS = {'semantic-fpn': (0, 1, 2, 4), 'upernet': (1, 2, 3, 4)}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Four images of 80 x 96 px with labels 1 and 2."""
    root = tmp_path_factory.mktemp('segmentation')
    numbers = np.random.default_rng(0)
    for name in ('images', 'labels'):
        (root / name).mkdir()
    for i in range(4):
        label = np.ones((80, 96), np.uint8)
        label[20 : 50 + i, 30:70] = 2
        picture = numbers.integers(0, 100, (80, 96, 3), dtype=np.uint8) + 100 * (label[..., None] == 2).astype(np.uint8)
        assert cv2.imwrite(str(root / f'images/{i}.jpg'), picture)
        assert cv2.imwrite(str(root / f'labels/{i}.png'), label)
    (root / 'all.txt').write_text('0\n1\n2\n3\n')
    return root


def shrink(cfg, folder):
    """The same config on this folder and on small images."""
    for name in ('train_dataloader', 'val_dataloader'):
        loader = cfg[name]
        loader.update(num_workers=0)
        loader.dataset.update(data_root=str(folder), data_prefix=dict(img_path='images', seg_map_path='labels'))
        if 'ann_file' in loader.dataset:
            loader.dataset.ann_file = 'all.txt'
        for step in loader.dataset.pipeline:
            if 'scale' in step:
                step['scale'] = (256, 64)
            if 'crop_size' in step:
                step['crop_size'] = (64, 64)
    cfg.train_dataloader.batch_size = 2
    cfg.model.data_preprocessor.size = (64, 64)
    cfg.model.backbone.arch = dict(preset=cfg.model.backbone.arch, depths=(0, 1, 1, 1, 1))
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.update(interval=-1, save_best=None)
    return cfg


# Each head once, both families: the others take most of the time, and run the same code. What sets them apart is in the
# tests of recipes below.
SLOW_SIZES = ('semantic-fpn_qsd', 'upernet_e', 'e-5m', 'e-19m', '-31m')
SIZES = [
    pytest.param(path, marks=pytest.mark.slow) if any(size in path.stem for size in SLOW_SIZES) else path
    for path in CONFIGS
]


@pytest.mark.parametrize('path', SIZES, ids=lambda path: path.stem)
def test_two_iterations_and_an_evaluation(path, folder, tmp_path):
    cfg = shrink(cli.load_config(str(path)), folder)
    parts = [part for part in ('backbone', 'neck', 'decode_head') if cfg.model.get(part)]  # UPerNet has no neck
    runner = short_run(cfg, tmp_path / 'run', parts)
    assert runner.iter == 2
    assert 0 <= runner.message_hub.get_scalar('val/mIoU').current() <= 100
    assert (tmp_path / 'run/learning_curves.png').is_file()


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_recipes(path):
    cfg = Config.fromfile(path)
    preset = path.stem.split('_')[1]
    outputs = tuple(cfg.model.backbone.out_indices)
    assert cfg.model.backbone.arch == preset and outputs == OUTPUTS.get(path.stem.split('_')[0], outputs)
    with torch.device('meta'):
        widths = qsdt_mm.SpikeDrivenTransformer(preset, out_indices=outputs).out_channels
    takes_the_maps = cfg.model.get('neck') or cfg.model.decode_head
    index = takes_the_maps.get('in_index', range(len(outputs)))  # a neck takes all
    if isinstance(index, int):
        assert takes_the_maps.in_channels == widths[index]
    else:
        assert list(takes_the_maps.in_channels) == [widths[i] for i in index]
    assert cfg.model.decode_head.num_classes == (150 if 'ade20k' in path.stem else 21)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, 0.005)
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys['head'] == dict(lr_mult=2.0)
    warmup, poly = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end) == (1e-6, 1500)
    assert (poly.type, poly.power, poly.eta_min, poly.end) == ('PolyLR', 1.0, 0.0, 160000)
    assert cfg.train_cfg.max_iters == 160000 and 4 * cfg.train_dataloader.batch_size == 16
    assert cfg.model.test_cfg.mode == 'whole'


def test_the_truth_has_intersection_over_union_one():
    from mmseg.evaluation import IoUMetric

    metric = IoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=('a', 'b'))
    label = torch.randint(0, 2, (1, 20, 30))
    metric.process({}, [dict(pred_sem_seg=dict(data=label), gt_sem_seg=dict(data=label))])
    assert metric.evaluate(size=1)['mIoU'] == 100


@pytest.mark.parametrize('workers', [0, 1])
def test_a_label_outside_the_classes_is_one_line(folder, tmp_path, capsys, workers):
    """It names the file and the label, from a worker too."""
    import shutil

    import toy_runs as toy

    spoilt = tmp_path / 'spoilt'
    shutil.copytree(folder, spoilt)
    cv2.imwrite(str(spoilt / 'labels/2.png'), np.full((80, 96), 151, np.uint8))  # one is taken off: zero is no class
    path = ROOT / 'configs/segmentation/semantic-fpn_e-5m_4xb4-160k_ade20k-512x512.py'
    cfg = shrink(Config.fromfile(path), spoilt)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.train_dataloader.update(batch_size=4, num_workers=workers)
    cfg.dump(tmp_path / 'small.py')
    assert toy.tool('train').main([str(tmp_path / 'small.py')]) == 2
    lines = toy.our_lines(capsys.readouterr().err)
    assert lines == [
        f'train.py: error: {spoilt}/labels/2.png has the label 150: expected 0 to 149, or 255 for pixels to ignore'
    ]
