"""Configs of event data: one for each data set trains and validates on files in its layout; all keep their word."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import toy_runs as toy
from config_runs import short_run
from event_samples import random_events, write
from mmengine.config import Config

pytest.importorskip('mmpretrain')

from qsdt_mm import cli  # noqa: E402
from qsdt_mm.datasets.events.datasets import CIFAR10DVS  # noqa: E402
from qsdt_mm.models.neurons import SpikingNeuron  # noqa: E402

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs/neuromorphic').glob('*.py'))
MOVING = ROOT / 'configs/neuromorphic/e-micro-4x4_1xb16_moving-digits-direction.py'
OWN = ROOT / 'configs/neuromorphic/e-micro-8x4_1xb16_own-events.py'
# One for each data set, the LIF network among them.
RUN = [
    next(p for p in reversed(CONFIGS) if name in p.stem and 'pictures' not in p.stem)
    for name in ('dvs128-gesture', 'cifar10-dvs', 'hardvs')
]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """The data sets, of two or three random samples a split."""
    root = tmp_path_factory.mktemp('events')
    sizes = {'dvs128': (128, 128), 'cifar10': (128, 128), 'hardvs': (260, 346), 'moving': (32, 32), 'own': (128, 128)}
    files = {name: write(root / f'{name}.npz', **random_events(0, 2000, size)) for name, size in sizes.items()}

    def place(name):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(files[name.partition('/')[0].partition('-')[0]])

    for split in ('train', 'test'):
        for label in range(11):
            place(f'dvs128-gesture/events_np/{split}/{label}/user01_led_0.npz')
    for name in CIFAR10DVS.METAINFO['classes']:
        for i in range(8):
            place(f'cifar10-dvs/events_np/{name}/cifar10_{name}_{i}.npz')
    for split in ('train', 'val', 'test'):
        for i in (1, 2):
            place(f'hardvs/action_00{i}/dvSave-{split}.npz')
        (root / f'hardvs/{split}_label.txt').write_text(f'action_001/dvSave-{split} 0\naction_002/dvSave-{split} 1\n')
    for split in ('train', 'val'):
        for task in ('direction', 'digit'):
            (root / f'moving-digits-{task}').mkdir(exist_ok=True)
            (root / f'moving-digits-{task}/{split}_{task}.txt').write_text('0 0\n0 1\n')
            if split == 'train':
                place(f'moving-digits-{task}/0.npz')
    place('own-events/a.npz')
    for split in ('train', 'val'):
        (root / f'own-events/{split}.txt').write_text('a.npz 0\na.npz 1\n')
    return root


def shrink(cfg, path, data):
    """The same config on this data, small frames, two samples, one epoch and a small network."""
    for name in ('train_dataloader', 'val_dataloader'):
        loader = cfg[name]
        loader.update(batch_size=2, num_workers=0)
        loader.dataset.update(data_root=str(data / path.stem.rpartition('_')[2]), indices=2)
        for step in loader.dataset.pipeline:
            if step.type == 'EventsToFrames':
                step['size'] = 32
            if step.type == 'LoadDrawnEvents':
                step.update(resize=40, crop_size=32)
            for inner in step.get('transforms', []):
                if 'crop_size' in inner:
                    inner['crop_size'] = 32
    arch = cfg.model.backbone.arch
    if isinstance(arch, str) or 'preset' in arch:
        arch = dict(preset=arch) if isinstance(arch, str) else arch
        cfg.model.backbone.arch = dict(arch, depths=(0, 1, 0, 1, 0))
    cfg.param_scheduler = []  # the first step of a warm-up would be too small to be seen
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.checkpoint.update(interval=-1, save_best=None)
    return cfg


@pytest.mark.parametrize('path', [*RUN, MOVING, OWN], ids=lambda path: path.stem)
def test_one_iteration_and_a_validation(path, data, tmp_path):
    runner = short_run(shrink(cli.load_config(str(path)), path, data), tmp_path / 'run', ('backbone', 'head'))
    assert runner.iter == 1 and 0 <= runner.message_hub.get_scalar('val/accuracy/top1').current() <= 100


def test_pictures_train_and_validate(tmp_path):
    (path,) = (path for path in CONFIGS if 'pictures' in path.stem)
    for i in (1, 2):
        folder = tmp_path / f'hardvs/action_00{i}/dvSave-1'
        folder.mkdir(parents=True)
        for k in range(3):
            picture = np.random.default_rng(k).integers(0, 256, (44, 60), dtype=np.uint8)
            assert cv2.imwrite(str(folder / f'{k}.png'), picture)
    for split in ('train', 'test'):
        (tmp_path / f'hardvs/{split}_label.txt').write_text('action_001 0 0\naction_002 0 1\n')
    runner = short_run(shrink(cli.load_config(str(path)), path, tmp_path), tmp_path / 'run', ('backbone', 'head'))
    neurons = [module for module in runner.model.modules() if isinstance(module, SpikingNeuron)]
    assert runner.iter == 1 and {neuron.time_steps for neuron in neurons} == {1}
    assert 0 <= runner.message_hub.get_scalar('val/accuracy/top1').current() <= 100


def test_the_config_for_own_events_is_whole_and_on_the_page():
    text = OWN.read_text(encoding='utf-8')
    assert f'```python\n{text}```\n' in (ROOT / 'docs/en/events.md').read_text(encoding='utf-8')
    assert '/datasets/' not in text


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_steps_agree_and_the_name_tells_them(path):
    cfg = Config.fromfile(path)
    backbone, head = cfg.model.backbone, cfg.model.head
    steps, max_spike_count = map(int, re.search(r'-(\d+)x(\d+)_', path.stem).groups())
    assert backbone.time_steps == steps and backbone.time_mean is False and backbone.in_channels == 2
    lif = backbone.get('neuron', {}).get('type') == 'LIF'
    assert backbone.max_spike_count == max_spike_count
    assert lif == ('-lif-' in path.stem) == (head.neuron.type == 'LIF')
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert cfg[name].dataset.num_frames == steps
        kinds = [step.type for step in cfg[name].dataset.pipeline]
        if 'pictures' in path.stem:
            loads = [step for step in cfg[name].dataset.pipeline if step.type == 'LoadDrawnEvents']
            assert [step.get('training', False) for step in loads] == [name == 'train_dataloader']
            continue
        assert kinds[0] == 'LoadEvents' and bool({'AugmentFrames', 'RandomRoll'} & set(kinds)) == (
            name == 'train_dataloader'
        )
    # Left and right are labels of two of the data sets.
    text = str(cfg.train_dataloader.dataset.pipeline)
    drawn = 'pictures' in path.stem  # they are mirrored where they are read
    assert ('RandomFlip' in text) == (('hardvs' in path.stem or 'cifar10' in path.stem) and not drawn)
    gpus, batch = map(int, re.search(r'_(\d+)xb(\d+)_', path.stem).groups())
    assert cfg.train_dataloader.batch_size == batch
    if 'moving' in path.stem:
        assert len(cfg.train_dataloader.dataset.classes) == head.num_classes
        return
    assert cfg.auto_scale_lr.base_batch_size == gpus * batch
    assert head.in_channels == last_width(backbone)


def last_width(backbone):
    import qsdt_mm

    if 'widths' in backbone.arch:
        return backbone.arch.widths[-1]
    name = backbone.arch if isinstance(backbone.arch, str) else backbone.arch.preset
    return qsdt_mm.SpikeDrivenTransformer.arch_zoo[name].widths[-1]


@pytest.mark.parametrize('path', [p for p in CONFIGS if 'hardvs' in p.stem], ids=lambda path: path.stem)
def test_the_recipe_of_hardvs(path):
    cfg = Config.fromfile(path)
    optimizer = cfg.optim_wrapper.optimizer
    gpus, batch = map(int, re.search(r'_(\d+)xb(\d+)_', path.stem).groups())
    assert (optimizer.type, optimizer.weight_decay) == ('AdamW', 1e-2)
    assert optimizer.lr == pytest.approx(4e-5 * gpus * batch / 256)
    assert cfg.optim_wrapper.clip_grad.max_norm == 1.0 and cfg.train_cfg.max_epochs == 100
    linear, cosine = cfg.param_scheduler
    assert linear.end == cosine.begin == 10 and cosine.end == 100
    (ema,) = cfg.custom_hooks
    assert ema.type == 'EMAHook' and ema.momentum == pytest.approx(0.001)
    if 'pictures' not in path.stem:  # which are cut to 224 px by default
        assert cfg.train_dataloader.dataset.pipeline[1].size == 224


@pytest.mark.parametrize(
    ('options', 'line'),
    [
        (['train_dataloader.dataset.num_frames=3'], 'expected (N, T, C, H, W) with T = time_steps = '),
        (['model.head.time_steps=1'], 'head.time_steps=1 does not fit the backbone: '),
        (['model.backbone.in_channels=3'], 'expected in_channels=3 channels'),
    ],
)
def test_steps_that_do_not_fit_are_one_line(data, tmp_path, capsys, options, line):
    cfg = shrink(Config.fromfile(MOVING), MOVING, data)
    cfg.dump(tmp_path / 'small.py')
    words = [str(tmp_path / 'small.py'), '--work-dir', str(tmp_path / 'run'), '--cfg-options', *options]
    assert toy.tool('train').main(words) == 2
    (error,) = toy.our_lines(capsys.readouterr().err)
    assert line in error


def test_a_malformed_file_is_one_line(data, tmp_path, capsys):
    cfg = shrink(Config.fromfile(MOVING), MOVING, data)
    cfg.dump(tmp_path / 'small.py')
    bad = write(tmp_path / 'bad.npz', p=None)
    (tmp_path / 'list.txt').write_text('bad 0\nbad 1\n')
    options = [f'train_dataloader.dataset.data_root={tmp_path}', 'train_dataloader.dataset.ann_file=list.txt']
    words = [str(tmp_path / 'small.py'), '--work-dir', str(tmp_path / 'run'), '--cfg-options', *options]
    assert toy.tool('train').main(words) == 2
    (line,) = toy.our_lines(capsys.readouterr().err)
    assert line.startswith(f'train.py: error: {bad} has no field p: expected t, x, y, p; it has t (')
