"""Every config builds, trains for an iteration and validates on random images; recipes are the papers'."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from config_runs import short_run
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip('mmpretrain')

from qsdt_mm import cli  # noqa: E402

ROOT = Path(__file__).parents[1]
CLASSIFICATION = sorted((ROOT / 'configs/classification').glob('*.py'))
PARAMETERS = {
    'qsd-8m': 8_369_048,
    'qsd-15m': 15_160_432,
    'qsd-31m': 31_403_360,
    'qsd-55m': 55_442_576,
    'e-3m': 2_702_048,
    'e-5m': 5_105_608,
    'e-10m': 10_023_112,
    'e-19m': 18_987_504,
    'e-83m': 83_015_952,
    'e-173m': 171_579_824,
}
LARGE = ('e-83m', 'e-173m')
NEURONS = {'neuron.': dict(weight_decay=0.0)}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Two classes of one random image each."""
    root = tmp_path_factory.mktemp('images')
    numbers = np.random.default_rng(0)
    for name in 'ab':
        (root / name).mkdir()
        assert cv2.imwrite(str(root / name / '0.png'), numbers.integers(0, 256, (48, 40, 3), dtype=np.uint8))
    return root


def shrink(cfg, images):
    """The same config with two images, one batch, one epoch; the large sizes in small."""
    cfg.model.backbone.pop('init_cfg', None)  # weights of an earlier training
    if cfg.model.backbone.arch in LARGE:
        cfg.model.backbone.arch = dict(preset=cfg.model.backbone.arch, widths=(8, 8, 16, 16), depths=(1, 1, 1, 2))
        cfg.model.head.in_channels = 16
    for name in ('train_dataloader', 'val_dataloader'):
        loader = cfg[name]
        loader.update(batch_size=2, num_workers=0)
        if loader.dataset.type == 'Digits':
            loader.dataset.indices = 2
            continue
        pipeline = [dict(step) for step in loader.dataset.pipeline]
        if pipeline[0]['type'] != 'LoadImageFromFile':
            pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), *pipeline]
        elif 'cifar' in cfg.filename:
            pipeline.insert(1, dict(type='Resize', scale=32))
        folders = dict(type='CustomDataset', data_root=str(images))
        in_memory = loader.dataset.type == 'InMemoryImages'
        loader.dataset = dict(type='InMemoryImages', source=folders) if in_memory else folders
        loader.dataset.pipeline = pipeline
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    return cfg


# The larger sizes take most of the time, and run the code of the smaller ones of their family.
SLOW_SIZES = ('qsd-9m', 'qsd-15m', 'qsd-31m', 'qsd-55m', 'e-5m', 'e-10m', 'e-19m')
SIZES = [
    pytest.param(path, marks=pytest.mark.slow) if any(size in path.stem for size in SLOW_SIZES) else path
    for path in CLASSIFICATION
]


@pytest.mark.parametrize('path', SIZES, ids=lambda path: path.stem)
def test_one_iteration_and_a_validation(path, images, tmp_path):
    runner = short_run(shrink(cli.load_config(str(path)), images), tmp_path / 'run', ('backbone', 'head'))
    assert runner.iter == 1
    assert (tmp_path / 'run/epoch_1.pth').is_file()
    assert (tmp_path / 'run/learning_curves.png').is_file()
    (scalars,) = (tmp_path / 'run').rglob('scalars.json')
    large = path.stem.startswith(LARGE)
    assert f'"firing/head.{"fc_dist" if large else "fc"}.neuron/rate": ' in scalars.read_text()
    assert 0 <= runner.message_hub.get_scalar('val/accuracy/top1').current() <= 100
    for preset, size in PARAMETERS.items():
        if path.stem.startswith(preset + '_') and not large:
            assert sum(p.numel() for p in runner.model.parameters()) == size


@pytest.mark.parametrize('path', [p for p in CLASSIFICATION if p.stem.endswith('_in1k')], ids=lambda path: path.stem)
def test_sizes_are_those_of_the_papers(path):
    cfg = cli.load_config(str(path))
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[path.stem.partition('_')[0]]


def test_every_preset_has_an_imagenet_config():
    names = [path.stem for path in CLASSIFICATION]
    for preset in PARAMETERS:
        assert sum(name.startswith(preset + '_') and name.endswith('_in1k') for name in names) == 1


@pytest.mark.parametrize('path', [p for p in CLASSIFICATION if p.stem.endswith('in1k')], ids=lambda path: path.stem)
def test_imagenet_recipes(path):
    """The papers' tables, and the file's name tells the truth about its batch."""
    cfg = Config.fromfile(path)
    gpus, batch = map(int, re.search(r'_(\d+)xb(\d+)_', path.stem).groups())
    qsd, large = path.stem.startswith('qsd'), path.stem.startswith(LARGE)
    total = 1568 if qsd else 1024 if large else 2048
    assert cfg.train_dataloader.batch_size == batch and gpus * batch == total
    assert cfg.auto_scale_lr.base_batch_size == total
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.weight_decay) == ('Lamb', 0.05)
    assert optimizer.lr == pytest.approx(6e-4 * total / 256)
    decay = dict(layer_decay_rate=0.75) if large else {}
    assert cfg.optim_wrapper.paramwise_cfg == dict(flat_decay_mult=0.0, custom_keys=NEURONS, **decay)
    epochs, warmup = (300, 15) if qsd else (150, 10) if large else (200, 5)
    linear, cosine = cfg.param_scheduler
    assert cfg.train_cfg.max_epochs == epochs == cosine.end
    assert linear.end == warmup == cosine.begin and linear.start_factor < 1e-5 and cosine.eta_min == 1e-6
    assert linear.convert_to_iter_based and cosine.convert_to_iter_based
    ema = [hook for hook in cfg.get('custom_hooks', []) if hook.type == 'EMAHook']
    assert [1 - hook.momentum for hook in ema] == pytest.approx([0.99996] if qsd or large else [])
    augments = cfg.model.get('train_cfg', {}).get('augments', [])
    assert [(a.type, a.alpha) for a in augments] == ([('Mixup', 0.8), ('CutMix', 1.0)] if large else [])
    assert cfg.model.backbone.get('drop_path_rate', 0.0) == (0.1 if large else 0.0)
    assert cfg.model.backbone.max_spike_count == (8 if large else 4)
    steps = {step.type: step for step in cfg.test_dataloader.dataset.pipeline}
    assert (steps['ResizeEdge'].scale, steps['CenterCrop'].crop_size) == (256 if qsd else 232, 224)
    assert steps['ResizeEdge'].interpolation == 'bicubic'
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    augment = steps['RandAugment']
    assert (augment.magnitude_level, augment.magnitude_std, augment.policies) == (9, 0.5, 'timm_increasing')
    assert steps['RandomErasing'].erase_prob == 0.25
    assert cfg.model.head.loss == dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
    assert cfg.model.backbone.weight_bits == (4 if qsd else 32)


def test_base_names_are_unique():
    """mim finds a config by its name alone."""
    names = [path.name for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts]
    assert len(names) == len(set(names))


@pytest.mark.slow
@pytest.mark.parametrize('path', sorted((ROOT / 'configs').glob('[!_]*/*.py')), ids=lambda path: path.stem)
def test_the_text_that_a_run_keeps(path, as_in_use):
    """Formatted, as no other test lets it be, it says the same."""
    cfg = cli.load_config(str(path))
    assert Config.fromstring(cfg.pretty_text, '.py').to_dict() == cfg.to_dict()


@pytest.mark.parametrize('room', ['classification', 'neuromorphic'])
def test_loaders_without_workers_say_that_none_persist(room):
    """mmpretrain's own train.py takes True where nothing is said, and torch refuses that without workers."""
    for path in (ROOT / 'configs' / room).glob('*.py'):
        cfg = Config.fromfile(path)
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            assert cfg[name].num_workers > 0 or cfg[name].get('persistent_workers') is False, (path, name)


def test_weight_decay_spares_what_is_one_dimensional(images, tmp_path):
    """Biases, norms, layer scales and LSQ steps."""
    cfg = shrink(cli.load_config(str(ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py')), images)
    cfg.work_dir = str(tmp_path)
    cli.import_library(cfg)
    cli.default_loaders(cfg)
    runner = cli.build_runner(cfg)
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    ours = {id(p) for p in runner.model.parameters()}  # mmengine adds a group of its own, to log the learning rate
    decays = {
        (p.dim() > 1, group['weight_decay']) for group in wrapper.param_groups for p in group['params'] if id(p) in ours
    }
    assert decays == {(True, 0.05), (False, 0.0)}
