"""Configs with a teacher train, in small; the large recipe is the paper's."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from config_runs import short_run

pytest.importorskip('mmpretrain')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import MODELS, DefaultScope  # noqa: E402

from qsdt_mm import cli  # noqa: E402
from qsdt_mm.fileio.checkpoint import load_checkpoint_safely  # noqa: E402

FOLDER = Path(__file__).parents[1] / 'configs/distillation'
CIFAR = sorted(FOLDER.glob('*cifar10*.py'))
IMAGENET = sorted(FOLDER.glob('*in1k.py'))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp('images')
    for name in 'ab':
        (root / name).mkdir()
        picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        assert cv2.imwrite(str(root / name / '0.png'), picture)
    return root


@pytest.mark.parametrize('path', CIFAR, ids=lambda path: path.stem)
def test_one_iteration(path, images, tmp_path):
    cfg = cli.load_config(str(path))
    for name in ('train_dataloader', 'val_dataloader'):
        cfg[name].update(batch_size=2, num_workers=0)
        cfg[name].dataset.update(data_root=str(images), data_prefix='')
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    if cfg.model.type == 'DistilledClassifier':
        cli.import_library(cfg)
        settings = {k: v for k, v in cfg.model.teacher.items() if k != 'checkpoint'}
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            torch.save(MODELS.build(settings).state_dict(), tmp_path / 'teacher.pth')
        cfg.model.teacher.checkpoint = str(tmp_path / 'teacher.pth')
    runner = short_run(cfg, tmp_path / 'run', ('backbone', 'head'))
    losses = {name for name in runner.message_hub.log_scalars if name.startswith('train/loss_')}
    kinds = dict(fgd='train/loss_fgd', hard='train/loss_hard')
    assert losses == {value for key, value in kinds.items() if f'-{key}_' in path.stem}
    saved = load_checkpoint_safely(tmp_path / 'run/epoch_1.pth')
    assert not [key for key in saved['state_dict'] if not key.startswith(('backbone.', 'head.'))]
    inside = sum(len(group['params']) for group in saved['optimizer']['param_groups'])
    assert inside == len(list(runner.model.parameters()))


@pytest.mark.parametrize('path', IMAGENET, ids=lambda path: path.stem)
def test_recipe(path):
    cfg = Config.fromfile(path)
    gpus, batch = map(int, re.search(r'_(\d+)xb(\d+)_', path.stem).groups())
    assert gpus * batch == cfg.auto_scale_lr.base_batch_size == 1568 and cfg.train_dataloader.batch_size == batch
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.weight_decay) == ('Lamb', 0.05)
    assert optimizer.lr == pytest.approx(1e-3 * 1568 / 256)
    neurons = {'neuron.': dict(weight_decay=0.0)}
    assert cfg.optim_wrapper.paramwise_cfg == dict(flat_decay_mult=0.0, custom_keys=neurons)
    linear, cosine = cfg.param_scheduler
    assert (linear.end, cosine.begin, cosine.end, cfg.train_cfg.max_epochs) == (5, 5, 100, 100)
    assert [(a.type, a.alpha) for a in cfg.model.train_cfg.augments] == [('Mixup', 0.5), ('CutMix', 1.0)]
    assert cfg.model.distillation == [dict(type='HardLogitDistillation', weight=0.5)]
    assert cfg.model.label_weight == 0.5 and cfg.model.backbone.drop_path_rate == 0.1
    assert cfg.model.head.type == 'SpikeTwoHeadClsHead'
    assert [1 - hook.momentum for hook in cfg.custom_hooks] == pytest.approx([0.99996])
    import timm

    assert timm.is_model(cfg.model.teacher.model_name.partition('.')[0])
