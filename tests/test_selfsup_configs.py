"""Every config of masked pre-training runs an epoch, draws its figure, and the tool draws another."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy
from config_runs import short_run

pytest.importorskip('mmpretrain')

from mmengine.config import Config  # noqa: E402

from qsdt_mm import cli  # noqa: E402

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs/selfsup').glob('*.py'))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp('images')
    (root / 'a').mkdir()
    for i in range(2):
        picture = np.random.default_rng(i).integers(0, 256, (48, 40, 3), dtype=np.uint8)
        assert cv2.imwrite(str(root / f'a/{i}.png'), picture)
    return root


def shrink(cfg, images):
    """The same config in small, on two images."""
    cfg.train_dataloader.update(batch_size=2, num_workers=0)
    pipeline = cfg.train_dataloader.dataset.pipeline
    if cfg.model.backbone.arch.get('preset'):
        cfg.model.backbone.arch.update(widths=(8, 8, 16, 16), depths=(0, 1, 1, 1))
        cfg.model.neck.update(embed_dim=16, decoder_embed_dim=8)
        pipeline[1].scale = 64
        cfg.model.neck.num_patches = 16
    cfg.train_dataloader.dataset = dict(type='CustomDataset', data_root=str(images), pipeline=pipeline)
    cfg.train_cfg.update(max_epochs=1)
    return cfg


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_one_epoch_and_a_figure(path, images, tmp_path):
    runner = short_run(shrink(cli.load_config(str(path)), images), tmp_path / 'run', ('backbone', 'neck', 'norm'))
    assert runner.iter == 1
    for name in ('reconstructions.png', 'learning_curves.png', 'epoch_1.pth'):
        assert (tmp_path / 'run' / name).is_file(), name


@pytest.mark.parametrize('path', [p for p in CONFIGS if p.stem.endswith('in1k')], ids=lambda path: path.stem)
def test_recipes(path):
    cfg = Config.fromfile(path)
    gpus, batch = map(int, re.search(r'_(\d+)xb(\d+)_', path.stem).groups())
    assert cfg.train_dataloader.batch_size == batch and gpus * batch == cfg.auto_scale_lr.base_batch_size == 2048
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, tuple(optimizer.betas), optimizer.weight_decay) == ('AdamW', (0.9, 0.95), 0.05)
    assert optimizer.lr == pytest.approx(1.5e-4 * 2048 / 256)
    linear, cosine = cfg.param_scheduler
    assert (linear.end, cosine.end, cosine.eta_min) == (20, 200, 1e-6)
    assert cfg.model.mask_ratio == 0.5 and cfg.model.head.norm_pix
    neck = cfg.model.neck
    assert (neck.decoder_embed_dim, neck.decoder_depth, neck.decoder_num_heads) == (256, 4, 4)
    crop = cfg.train_pipeline[1]
    assert crop.type == 'RandomResizedCrop' and tuple(crop.crop_ratio_range) == (0.2, 1.0)


def test_the_tool_draws(images, tmp_path, capsys):
    from mmengine.registry import DefaultScope

    path = ROOT / 'configs/selfsup/spike-mae_e-small_1xb64_cifar10-folder-64px.py'
    cfg = shrink(cli.load_config(str(path)), images)
    cfg.dump(tmp_path / 'small.py')
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = cli.build_model(cfg, None, cli.Session('test'))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'new.pth')
    tool = toy.tool('analysis_tools/vis_mae')
    words = [str(tmp_path / 'small.py'), str(tmp_path / 'new.pth'), '--out', str(tmp_path / 'mae.png')]
    assert tool.main(words) == 0
    first = (tmp_path / 'mae.png').read_bytes()
    assert first.startswith(b'\x89PNG') and str(tmp_path / 'mae.png') in capsys.readouterr().out
    assert tool.main([*words, '--seed', '1', '--images', str(images / 'a/1.png')]) == 0
    assert (tmp_path / 'mae.png').read_bytes() != first
    assert tool.main([*words, '--images', 'none.png']) == 2
    digits = str(ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py')
    assert tool.main([digits, *words[1:]]) == 2
    lines = toy.our_lines(capsys.readouterr().err, 'vis_mae.py')
    assert 'image none.png does not exist' in lines[0] and len(lines) == 2
