"""What the tools say of a stock head: how much stays in floats; and how they refuse it."""

import importlib.util
import json

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy

pytest.importorskip('mmpretrain')
pytest.importorskip('sklearn')

DIGITS = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
HEAD = """
_base_ = {base!r}
model = dict(head=dict(_delete_=True, type='LinearClsHead', num_classes=10, in_channels=64))
test_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=dict(indices=16))
"""
SAID = '1 of 44 layers is outside units and stays in floats (head.fc): '


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """A config with a stock head, and a checkpoint with new weights."""
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli

    root = tmp_path_factory.mktemp('stock')
    config = root / 'stock.py'
    config.write_text(HEAD.format(base=str(DIGITS)))
    cfg = cli.load_config(str(config))
    cli.import_library(cfg)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = cli.build_model(cfg, None, cli.Session('test'))
    state = model.state_dict()
    assert sum(name.endswith('.weight') and value.dim() > 1 for name, value in state.items()) == 44
    torch.save(dict(state_dict=state), root / 'new.pth')
    return config, root / 'new.pth'


def image_demo():
    spec = importlib.util.spec_from_file_location('image_demo', toy.ROOT / 'demo/image_demo.py')
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    return demo


@pytest.mark.parametrize('tool', ['test', 'energy', 'compare_inference', 'benchmark', 'image_demo'])
def test_refusal(classifier, tmp_path, capfd, tool):
    words = [str(word) for word in classifier]
    if tool == 'test':
        words += ['--inference', 'spike', '--work-dir', str(tmp_path / 'run')]
    elif tool == 'benchmark':
        words += ['--mode', 'integer', '--size', '32', '--batch', '1']
    elif tool == 'image_demo':
        cv2.imwrite(str(tmp_path / 'photo.png'), np.zeros((40, 40, 3), np.uint8))
        words = [str(tmp_path / 'photo.png'), *words, '--out-dir', str(tmp_path / 'run')]
    folder = '' if tool == 'test' else 'analysis_tools/'
    main = image_demo().main if tool == 'image_demo' else toy.tool(f'{folder}{tool}').main
    assert main([*words, '--require-spikes']) == 2
    lines = toy.our_lines(capfd.readouterr().err, f'{tool}.py')
    assert len(lines) == 1 and 'require_spikes=True is not allowed' in lines[0] and SAID in lines[0]
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('words', [['test'], ['benchmark', '--mode', 'train']])
def test_it_goes_with_conversions(classifier, capsys, words):
    tool, *words = words
    main = toy.tool(tool if tool == 'test' else f'analysis_tools/{tool}').main
    with pytest.raises(SystemExit, match='2'):
        main([*map(str, classifier), *words, '--require-spikes'])
    assert '--require-spikes goes with --' in capsys.readouterr().err


def test_test(classifier, tmp_path, capfd):
    words = ['--inference', 'spike', '--work-dir', tmp_path / 'run', '--json', tmp_path / 'm.json']
    assert toy.tool('test').main([str(word) for word in (*classifier, *words)]) == 0
    said = ''.join(capfd.readouterr())
    assert said.count(f'spike inference: {SAID}') == 1 and ' % of the multiply-accumulates; in units, ' in said
    outside = json.loads((tmp_path / 'm.json').read_text())['outside_units']
    assert outside['outside'] == ['head.fc'] and outside['measure'] == 'multiply-accumulates'
    assert 0 < outside['share'] < 0.01


def test_comparison(classifier, tmp_path, capfd):
    tool = toy.tool('analysis_tools/compare_inference')
    assert tool.main([*map(str, classifier), '--json', str(tmp_path / 'c.json')]) == 0
    out, error = capfd.readouterr()
    assert (out + error).count(SAID) == 1 and f'floats     {SAID}' in out
    assert json.loads((tmp_path / 'c.json').read_text())['outside_units']['outside'] == ['head.fc']


def test_energy(classifier, tmp_path, capsys):
    tool = toy.tool('analysis_tools/energy')
    words = ['--images', '4', '--json', tmp_path / 'e.json', '--plot', tmp_path / 'e.png']
    assert tool.main([str(word) for word in (*classifier, *words)]) == 0
    text, report = capsys.readouterr().out, json.loads((tmp_path / 'e.json').read_text())
    assert 'outside units  1 layer, driven by floats: 640 MACs' in text
    row = next(row for row in report['layers'] if row['name'] == 'head.fc')
    assert (row['driven_by'], row['macs'], row['kind']) == ('floats', 640, 'linear')
    assert report['total']['outside_units']['macs'] == 640
    assert (tmp_path / 'e.png').is_file()
    assert tool.main([*map(str, (DIGITS, '--images', 4)), '--require-spikes', '--json', str(tmp_path / 'f.json')]) == 0
    assert json.loads((tmp_path / 'f.json').read_text())['images'] == 4  # none was lost to the check
    assert 'outside units' not in capsys.readouterr().out
