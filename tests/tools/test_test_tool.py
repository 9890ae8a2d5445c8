"""tools/test.py and tools/misc/print_config.py."""

import json
import os
import pickle
import shutil

import pytest
import torch
import toy_runs as toy


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """The checkpoint of a run of one epoch."""
    return toy.finished(tmp_path_factory, epochs=1) / 'epoch_1.pth'


def refused(capsys, status, *hints):
    error = capsys.readouterr().err
    lines = toy.our_lines(error, 'test.py')
    assert status == 2 and len(lines) == 1, error
    for hint in hints:
        assert str(hint) in lines[0], lines[0]


def test_figures_and_predictions(tmp_path, checkpoint, capsys):
    metrics, out = tmp_path / 'new' / 'm.json', tmp_path / 'other' / 'p.pkl'
    assert toy.evaluate(checkpoint, tmp_path / 'run', '--json', metrics, '--out', out) == 0
    report = json.loads(metrics.read_text())
    assert report['checkpoint'] == str(checkpoint) and report['config'] == str(toy.CONFIG)
    predictions = pickle.loads(out.read_bytes())
    assert len(predictions) == 24
    right = sum(p['pred'] == p['label'] for p in predictions) / 24
    assert report['metrics'] == dict(acc=pytest.approx(right))
    assert not (tmp_path / 'run' / 'toy_config.py').exists()  # a training's own is not overwritten


def test_the_weights_of_the_file_are_evaluated(tmp_path, checkpoint):
    changed = toy.state(checkpoint)
    for key, value in changed['state_dict'].items():
        if key.startswith('head'):
            value.zero_()
    changed['state_dict']['head.bias'][2] = 1.0  # always says 2
    torch.save(changed, tmp_path / 'c.pth')
    assert toy.evaluate(tmp_path / 'c.pth', tmp_path / 'run', '--out', tmp_path / 'p.pkl') == 0
    assert {p['pred'] for p in pickle.loads((tmp_path / 'p.pkl').read_bytes())} == {2}


def test_a_checkpoint_that_does_not_fit(tmp_path, checkpoint, capsys):
    refused(
        capsys,
        toy.evaluate(checkpoint, tmp_path / 'run', model__width=6),
        checkpoint,
        'does not fit',
        'of another shape (stem.0.weight',
        '--allow-mismatch',
    )
    assert not (tmp_path / 'run').exists()
    changed = toy.state(checkpoint)
    changed['state_dict']['extra.weight'] = changed['state_dict'].pop('head.bias')
    torch.save(changed, tmp_path / 'c.pth')
    refused(
        capsys,
        toy.evaluate(tmp_path / 'c.pth', tmp_path / 'run'),
        '1 missing from it (head.bias)',
        '1 unknown to the model (extra.weight)',
    )
    assert toy.evaluate(tmp_path / 'c.pth', tmp_path / 'run', '--allow-mismatch') == 0
    assert toy.evaluate(checkpoint, tmp_path / 'run', '--allow-mismatch', model__width=6) == 0


def test_bad_input(tmp_path, checkpoint, capsys):
    run = tmp_path / 'run'
    refused(capsys, toy.evaluate(tmp_path / 'none.pth', run), 'none.pth does not exist')
    refused(capsys, toy.evaluate(checkpoint, run, config=tmp_path / 'none.py'), 'none.py does not exist')
    refused(capsys, toy.evaluate(checkpoint, run, test_dataloader__batchsize=3), 'test_dataloader.batch_size')
    refused(capsys, toy.evaluate(checkpoint, run, test_dataloader__dataset__count=0), 'test data set is empty')
    refused(capsys, toy.evaluate(checkpoint, run, '--show-dir', tmp_path), 'visualization hook')
    config = toy.variant(tmp_path / 'no_test.py', 'test_cfg = test_evaluator = None')
    refused(capsys, toy.evaluate(checkpoint, run, config=config), 'test_cfg, test_evaluator')
    shutil.copy(checkpoint, tmp_path / 'half.pth')
    os.truncate(tmp_path / 'half.pth', 2000)
    refused(capsys, toy.evaluate(tmp_path / 'half.pth', run), 'half.pth is truncated')
    assert not run.exists()
    for words in (['--out', 'p.txt'], ['--interval', '0']):
        with pytest.raises(SystemExit) as caught:
            toy.evaluate(checkpoint, run, *words)
        assert caught.value.code == 2 and capsys.readouterr().err.count('\n') == 1


def test_no_code_from_a_checkpoint_runs(tmp_path, checkpoint, capsys):
    mark, evil = tmp_path / 'mark', tmp_path / 'evil.pth'
    torch.save({**toy.state(checkpoint), 'extra': toy.Evil(mark)}, evil)
    refused(capsys, toy.evaluate(evil, tmp_path / 'run'), evil, 'wants to run posix.mkdir')
    refused(capsys, toy.evaluate(evil, tmp_path / 'run', '--allow-mismatch'), 'wants to run posix.mkdir')
    assert not mark.exists()
    torch.load(evil, weights_only=False)
    assert mark.exists()  # it would have worked


def test_figures_that_json_does_not_know():
    import numpy as np

    from qsdt_mm.fileio.reports import to_json as plain

    value = dict(a=np.float32(0.5), b=float('nan'), c=torch.tensor([1, 2]), d=(np.int64(3), 'x', None, True), e=object)
    assert {**plain(value), 'e': ''} == dict(a=0.5, b=None, c=[1, 2], d=[3, 'x', None, True], e='')


@pytest.mark.parametrize(
    ('scope', 'hook', 'expected'),
    [
        ('mmpretrain', 'VisualizationHook', dict(enable=True)),
        ('mmdet', 'DetVisualizationHook', dict(draw=True, wait_time=2)),
        ('mmseg', 'SegVisualizationHook', dict(draw=True, wait_time=2)),
    ],
)
def test_pictures_use_each_librarys_own_hook(scope, hook, expected):
    from argparse import Namespace

    pytest.importorskip(scope)
    from mmengine.config import Config

    hooks = dict(visualization=dict(type=hook))
    cfg = Config(dict(default_scope=scope, visualizer=dict(type='Visualizer'), default_hooks=hooks))
    toy.tool('test').enable_pictures(cfg, Namespace(show=False, show_dir='pics', interval=3, wait_time=2))
    assert cfg.default_hooks.visualization == dict(type=hook, show=False, interval=1, **expected)


@pytest.mark.parametrize('suffix', ['py', 'yaml', 'json'])
def test_print_config_round_trip(tmp_path, capsys, suffix, as_in_use):
    from mmengine.config import Config

    tool, path = toy.tool('misc/print_config'), tmp_path / 'new' / f'saved.{suffix}'
    assert tool.main([str(toy.CONFIG), '--save-path', str(path), '--cfg-options', 'model.width=7']) == 0
    expected = Config.fromfile(toy.CONFIG)
    expected.model.width = 7
    assert Config.fromfile(path).to_dict() == expected.to_dict()
    capsys.readouterr()
    assert tool.main([str(toy.CONFIG), '--cfg-options', 'model.width=7']) == 0
    printed = capsys.readouterr().out
    assert Config.fromstring(printed, '.py').to_dict() == expected.to_dict()


def test_print_config_bad_input(tmp_path, capsys):
    tool = toy.tool('misc/print_config')
    assert tool.main([str(tmp_path / 'none.py')]) == 2
    assert tool.main([str(toy.CONFIG), '--cfg-options', 'model.widht=7']) == 2
    lines = toy.our_lines(capsys.readouterr().err, 'print_config.py')
    assert len(lines) == 2 and 'did you mean model.width' in lines[1]
    with pytest.raises(SystemExit) as caught:
        tool.main([str(toy.CONFIG), '--save-path', 'x.txt'])
    assert caught.value.code == 2
