"""What used to be found after an epoch, or never, is found before the first step; or at the first validation."""

import importlib.util

import pytest
import toy_runs as toy
from mmengine.config import Config

QUICK = dict(train_dataloader__num_workers=0, train_cfg__val_interval=1, train_cfg__max_epochs=2)
PARTS = "custom_imports = dict(imports=['qsdt_mm.engine.hooks', 'toy_parts'])\n"


def refused(capsys, status, folder, *hints):
    """One line of ours, status 2, and nothing was begun."""
    error = capsys.readouterr().err
    lines = toy.our_lines(error)
    assert status == 2 and len(lines) == 1, error
    for hint in hints:
        assert hint in lines[0], lines[0]
    assert not folder.exists()


@pytest.mark.parametrize('name', ['timer', 'logger', 'param_scheduler', 'checkpoint', 'sampler_seed', 'runtime_info'])
def test_mmengines_hooks_can_be_left_out(tmp_path, name):
    assert toy.train(tmp_path / 'run', **{f'default_hooks__{name}': 'None'}, **QUICK) == 0


def test_our_hooks_can_be_left_out(tmp_path, capsys):
    names = {f'default_hooks__{name}': 'None' for name in ('reseed', 'guard')}
    assert toy.train(tmp_path / 'a', **names, custom_hooks='None', **QUICK) == 0
    config = toy.variant(tmp_path / 'c.py', 'default_hooks = dict(reseed=None, mine=None)\ncustom_hooks = [None]')
    assert toy.train(tmp_path / 'b', config=config, **QUICK) == 0
    capsys.readouterr()
    refused(capsys, toy.train(tmp_path / 'c', default_hooks__gard='None'), tmp_path / 'c', 'default_hooks.guard?')
    refused(capsys, toy.train(tmp_path / 'c', custom_hooks__0='None'), tmp_path / 'c', 'give the whole list')
    for words in ('default_hooks__guard=3', 'custom_hooks=3', 'custom_hooks=[a]', 'default_hooks=[1]'):
        key, _, value = words.partition('=')
        status = toy.train(tmp_path / 'c', **{key: value})
        refused(capsys, status, tmp_path / 'c', key.replace('__', '.'), 'is not allowed: expected a')


def test_curves_can_be_left_out(tmp_path):
    pytest.importorskip('mmpretrain')
    cfg = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
    from qsdt_mm.cli import load_config

    for name in load_config(str(cfg)).default_hooks:
        assert name not in load_config(str(cfg), [f'default_hooks.{name}=None']).default_hooks or name in (
            'timer',
            'logger',
            'param_scheduler',
            'checkpoint',
            'sampler_seed',
        )


WATCHERS = dict(
    early="custom_hooks = [dict(type='EMAHook'), dict(type='EarlyStoppingHook', monitor='{key}', rule='greater')]",
    best="default_hooks = dict(checkpoint=dict(save_best='{key}', rule='greater'))",
    several="default_hooks = dict(checkpoint=dict(save_best=['{good}', '{key}'], rule='greater'))",
    curves="default_hooks = dict(curves=dict(type='LearningCurvesHook', metrics=['{key}']))",
    plateau="param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='{key}', rule='greater')]",
)


@pytest.mark.parametrize('watcher', WATCHERS)
def test_a_figure_that_no_prefix_has_is_refused(tmp_path, capsys, watcher):
    # A prefix is known, a stranger's names are not.
    text = f"{PARTS}val_evaluator = dict(type='ToyScores', scores=[0.5], prefix='toy')\n{WATCHERS[watcher]}"
    config = toy.variant(tmp_path / 'c.py', text.format(key='tyo/acc', good='toy/acc2'))
    refused(capsys, toy.train(tmp_path / 'run', config=config, **QUICK), tmp_path / 'run', "'tyo/acc'", 'toy/')
    config.write_text(config.read_text().replace('tyo/', 'toy/'))
    assert toy.train(tmp_path / 'run', config=config, **QUICK) == 0


@pytest.mark.parametrize('watcher', WATCHERS)
@pytest.mark.parametrize('interval', [1, 5])
def test_a_figure_that_a_strangers_metric_lacks_ends_the_first_validation(tmp_path, capsys, watcher, interval):
    """Nothing is lost: there is a checkpoint, and the run goes on from it."""
    scores = "val_evaluator = dict(type='ToyScores', scores=[0.5])\n"
    config = toy.variant(tmp_path / 'c.py', PARTS + scores + WATCHERS[watcher].format(key='accc', good='acc2'))
    work_dir, changes = tmp_path / 'run', dict(QUICK, default_hooks__checkpoint__interval=interval, randomness__seed=2)
    assert toy.train(work_dir, config=config, **changes) == 2
    (line,) = toy.our_lines(capsys.readouterr().err)
    assert "'accc'" in line and 'there is acc' in line and f'--resume {work_dir / "epoch_1.pth"}' in line
    config.write_text(config.read_text().replace('accc', 'acc'))
    assert toy.train(work_dir, '--resume', config=config, **changes) == 0
    straight = tmp_path / 'straight'
    assert toy.train(straight, config=config, **changes) == 0
    if watcher != 'plateau':  # mmengine's checkpoints are saved before that schedule has seen the validation
        assert toy.training_differences(straight / 'epoch_2.pth', work_dir / 'epoch_2.pth') == []


def test_trying_the_validation_changes_nothing(tmp_path, monkeypatch):
    from qsdt_mm.cli import rehearsal

    for name in ('with', 'without'):
        assert toy.train(tmp_path / name, randomness__seed=1, **QUICK) == 0
        monkeypatch.setattr(rehearsal, 'rehearse', lambda *args: rehearsal.Names([], [None]))
    assert toy.training_differences(tmp_path / 'with/epoch_2.pth', tmp_path / 'without/epoch_2.pth') == []


@pytest.mark.parametrize('words', ['collate_fn__weights_bits=1', 'collate_fn__type=pseudo_collate'])
def test_a_batch_that_cannot_be_made(tmp_path, capsys, words):
    key, _, value = words.partition('=')
    text = f'val_dataloader = dict({key.partition("__")[0]}=dict({key.partition("__")[2]}={value!r}))'
    config = toy.variant(tmp_path / 'c.py', text)
    status = toy.train(tmp_path / 'run', config=config, **QUICK)
    refused(capsys, status, tmp_path / 'run', 'validation', 'Error: ')


@pytest.fixture
def digits(tmp_path):
    """The demo on two classes and few images, as a function of changes."""
    pytest.importorskip('mmpretrain')
    pytest.importorskip('sklearn')
    base = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'

    def train(change, tool='train', *words):
        cfg = Config.fromfile(base)
        cfg.model.backbone.arch.update(widths=(4, 8, 8, 8, 8), num_heads=2)
        cfg.model.head.in_channels = 8
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.batch_size, loader.dataset.indices = 8, 16
        cfg.train_cfg.max_epochs, cfg.max_epochs = 1, 1
        change(cfg)
        config = tmp_path / 'digits.py'
        config.write_text(cfg.pretty_text)
        return toy.tool(tool).main([str(config), *words, '--work-dir', str(tmp_path / 'run')])

    return train


def evaluator(**settings):
    def change(cfg):
        cfg.val_evaluator = settings

    return change


def head(**settings):
    return lambda cfg: cfg.model.head.update(settings)


CLASSIFIERS = [
    (evaluator(type='Accuracy', topk=(1, 11)), ['topk=(1, 11) of Accuracy', 'num_classes=10']),
    (evaluator(type='Accuracy', topk=11), ['topk=(11,) of Accuracy']),
    (head(topk=(1, 11), cal_acc=True), ['topk=(1, 11) of SpikeLinearClsHead', 'num_classes=10']),
    (evaluator(type='SingleLabelMetric', num_classes=7), ['num_classes=7 of SingleLabelMetric', 'num_classes=10']),
    (evaluator(type='SingleLabelMetric', items=('precision', 'recal')), ['recal']),
    (evaluator(type='SingleLabelMetric', average='mean'), ['SingleLabelMetric', 'average']),
    (evaluator(type='Accuracy', thrs='half'), ['Accuracy', 'cannot be computed']),
    (
        lambda cfg: cfg.default_hooks.checkpoint.update(save_best='accuracy/top5', rule='greater'),
        ["'accuracy/top5'", 'accuracy/top1'],
    ),
    (
        lambda cfg: cfg.update(custom_hooks=[dict(type='EarlyStoppingHook', monitor='accuracy_top1', rule='greater')]),
        ['monitor of EarlyStoppingHook', 'accuracy/top1'],
    ),
]


@pytest.mark.parametrize('case', range(len(CLASSIFIERS)))
def test_classifiers(tmp_path, capsys, digits, case):
    change, hints = CLASSIFIERS[case]
    refused(capsys, digits(change), tmp_path / 'run', *hints)


@pytest.mark.parametrize(
    'change',
    [
        evaluator(type='Accuracy', topk=(1, 10), thrs=(0.0, 0.5, None)),
        evaluator(type='SingleLabelMetric', num_classes=10, average=None),
        evaluator(type='ConfusionMatrix'),
        head(topk=(1, 11), cal_acc=False),
    ],
)
def test_classifiers_that_can_be_evaluated(digits, change):
    assert digits(lambda cfg: (change(cfg), cfg.default_hooks.checkpoint.update(save_best=None, rule=None))) == 0


def test_the_same_when_testing(tmp_path, capsys, digits):
    assert digits(lambda cfg: None) == 0
    (tmp_path / 'run').rename(tmp_path / 'trained')
    capsys.readouterr()

    def change(cfg):
        cfg.test_evaluator = dict(type='Accuracy', topk=(1, 11))

    words = [str(tmp_path / 'trained/epoch_1.pth'), '--json', str(tmp_path / 'm.json')]
    assert digits(change, 'test', *words) == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'test.py')
    assert 'topk=(1, 11) of Accuracy' in line
    assert not (tmp_path / 'run').exists() and not (tmp_path / 'm.json').exists()


@pytest.fixture
def scenes(tmp_path):
    """Configurations of a small detector and a small segmenter with a validation, as a function of their kind."""
    for library in ('mmdet', 'mmseg', 'pycocotools'):
        pytest.importorskip(library)
    path = toy.ROOT / 'tests/reliability/test_broken_data.py'
    spec = importlib.util.spec_from_file_location('broken_data', path)
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)

    def train(kind, text, work_dir='run'):
        root = tmp_path / kind
        root.mkdir(exist_ok=True)
        made = dict(detector=broken.Coco, segmenter=broken.Maps)[kind].make(root)
        made = made.replace('val_cfg = val_dataloader = val_evaluator = None', 'val_cfg = dict()')
        config = root / 'c.py'
        name = f'{kind}-{tmp_path.name}'  # runs of one process share logs and pictures otherwise
        config.write_text(f'{made}\n{text}\nexperiment_name = {name!r}\nvisualizer = dict(name={name!r})\n')
        return toy.tool('train').main([str(config), '--work-dir', str(tmp_path / work_dir)])

    return train


DETECTION = """
val_dataloader = dict(batch_size=2, num_workers=0, dataset=train_dataloader['dataset'] | dict(
    type='CocoDataset', test_mode=True, pipeline=[
        dict(type='LoadImageFromFile'), dict(type='Resize', scale=[64, 64], keep_ratio=False),
        dict(type='PackDetInputs', meta_keys=['img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'])]),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='CocoMetric', ann_file=train_dataloader['dataset']['data_root'] + '/set.json', %s)
"""


@pytest.mark.parametrize(
    ('settings', 'more', 'hint'),
    [
        ("metric=['bbox', 'segm']", "model['roi_head'].update(mask_head=None, mask_roi_extractor=None)", 'segm'),
        ("metric=['bbox', 'masks']", '', 'masks'),
        ("metric='bbox'", "default_hooks['checkpoint'].update(save_best='coco/segm_mAP', rule='greater')", 'segm_mAP'),
        ("metric='bbox', metric_items=['mAP', 'mAP_5']", '', 'mAP_5'),
    ],
)
def test_detectors(tmp_path, capsys, scenes, settings, more, hint):
    status = scenes('detector', DETECTION % settings + more)
    refused(capsys, status, tmp_path / 'run', hint)


SEGMENTATION = """
val_dataloader = dict(batch_size=1, num_workers=0, dataset=train_dataloader['dataset'] | dict(
    type='BaseSegDataset', data_prefix=dict(img_path='images/train', seg_map_path='semantic/train'),
    metainfo=dict(classes=['background', 'nucleus'], palette=[[0, 0, 0], [9, 9, 9]]), img_suffix='.png', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='IoUMetric', %s)
"""


@pytest.mark.parametrize(
    ('settings', 'more', 'hint'),
    [
        ("iou_metrics=['mIoU', 'mDise']", '', 'mDise'),
        ("iou_metrics=['mIoU']", "default_hooks['checkpoint'].update(save_best='mDice', rule='greater')", "'mDice'"),
    ],
)
def test_segmenters(tmp_path, capsys, scenes, settings, more, hint):
    status = scenes('segmenter', SEGMENTATION % settings + more)
    refused(capsys, status, tmp_path / 'run', hint)


def test_scenes_that_can_be_evaluated(tmp_path, scenes):
    best = "\ndefault_hooks['checkpoint'].update(save_best=%r, rule='greater')"
    assert scenes('detector', DETECTION % "metric=['bbox', 'segm']" + best % 'coco/segm_mAP', 'a') == 0
    assert scenes('segmenter', SEGMENTATION % "iou_metrics=['mIoU', 'mDice']" + best % 'mDice', 'b') == 0
