"""The tools on networks that come with the package: a name, or a complete folder, in place of CONFIG and CHECKPOINT."""

import importlib.util
import json

import pytest
import toy_runs as toy
from small_digits import CONFIG, checkpoint, options

import qsdt_mm
from qsdt_mm.fileio.folders import kinds_in

pytest.importorskip('mmpretrain')
pytest.importorskip('sklearn')

DIGITS = 'qsd-tiny_1xb32_digits'
PICTURE = str(toy.ROOT / 'demo/digit.png')


def test(tmp_path, *words):
    out = tmp_path / 'figures.json'
    words = [DIGITS, '--work-dir', str(tmp_path / 'run'), '--json', str(out), *words]
    assert toy.tool('test').main([*words, *toy.options()]) == 0
    return json.loads(out.read_text())['metrics']['accuracy/top1']


def figure(form):
    return qsdt_mm.list_pretrained()[DIGITS]['metrics'][f'top-1, {form}']


test.__test__ = False


@pytest.mark.parametrize(
    'form', ['deploy', *(pytest.param(form, marks=pytest.mark.slow) for form in ('float', 'integer', 'spike'))]
)
def test_a_name_gives_the_figure_of_its_card(form, tmp_path):
    expected = figure('integer' if form == 'spike' else form)
    assert round(test(tmp_path, '--inference', form), 4) == expected


def test_other_tools_take_names(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert toy.tool('analysis_tools/energy').main([DIGITS, '--images', '2', '--json', 'energy.json']) == 0
    assert json.loads((tmp_path / 'energy.json').read_text())['checkpoint'] == DIGITS
    assert toy.tool('misc/print_config').main([DIGITS]) == 0
    assert 'SpikeDrivenTransformer' in capsys.readouterr().out
    assert toy.tool('analysis_tools/compare_inference').main([DIGITS, '--images', '2']) == 0
    words = [DIGITS, '--mode', 'eval', '--size', '32', '--batch', '1', '--repeats', '1', '--warm-up', '0']
    assert toy.tool('analysis_tools/benchmark').main(words) == 0


def test_the_command_of_the_readme(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location('image_demo', toy.ROOT / 'demo/image_demo.py')
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    assert demo.main([PICTURE, DIGITS, '--out-dir', str(tmp_path)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert all(f'    {first}\n' in (toy.ROOT / name).read_text() for name in ('README.md', 'README.zh-CN.md'))
    assert json.loads((tmp_path / 'digit_found.json').read_text())['classes'][0]['name'] == '3'


@pytest.mark.parametrize('suffix', ['onnx', pytest.param('nir', marks=pytest.mark.slow)])
def test_plans_of_names_are_exported(suffix, tmp_path, monkeypatch):
    pytest.importorskip(suffix)
    words = [DIGITS, *(['--partial'] if suffix == 'nir' else []), str(tmp_path / f'net.{suffix}')]
    assert toy.tool(f'deployment/export_{suffix}').main(words) == 0
    assert (tmp_path / f'net.{suffix}').stat().st_size > 1000


def test_training_starts_from_a_name(tmp_path):
    few = ['train_dataloader.dataset.indices=32', 'val_dataloader.dataset.indices=4', 'train_cfg.max_epochs=1']
    few += [f'load_from={DIGITS}', 'optim_wrapper.optimizer.lr=0.0', 'default_hooks.firing=None']
    words = [DIGITS, '--work-dir', str(tmp_path / 'run'), *toy.options(), *few]
    assert toy.tool('train').main(words) == 0
    trained = toy.state(tmp_path / 'run/epoch_1.pth')['state_dict']
    start = qsdt_mm.from_pretrained(DIGITS).state_dict()
    names = [name for name in start if name.endswith('quantizer.step')]
    assert names and all(trained[name].equal(start[name]) for name in names)
    assert (tmp_path / f'run/{DIGITS}.py').is_file()


@pytest.mark.parametrize(
    'words, said',
    [
        (['qsd-tiny_1xb32_digit'], f'config qsd-tiny_1xb32_digit does not exist (did you mean {DIGITS}?)'),
        (['qsd-tiny_1xb32_digit', 'x.pth'], f'(did you mean {DIGITS}?)'),
        ([str(CONFIG)], 'the following arguments are required: checkpoint'),
        ([str(CONFIG), 'qsd-tiny_1xb32_digts'], f'(did you mean {DIGITS}?)'),
        ([str(CONFIG), '--interval', '0', 'x.pth'], '--interval must be at least 1'),
    ],
)
def test_what_is_no_name_is_one_line(words, said, tmp_path, capsys):
    try:
        status = toy.tool('test').main([*words, '--work-dir', str(tmp_path / 'run')])
    except SystemExit as left:
        status = left.code
    lines = toy.our_lines(capsys.readouterr().err, 'test.py')
    assert status == 2 and len(lines) == 1 and said in lines[0]


def test_a_complete_folder_of_ones_own(tmp_path, capsys):
    """Of any network; what cannot be evaluated is said."""
    weights = checkpoint(tmp_path / 'new.pth')
    words = ['--kind', 'complete', '--calibrate', '4', *options()]
    assert toy.tool('deployment/pack').main([str(CONFIG), str(weights), str(tmp_path / 'net'), *words]) == 0
    words = [str(tmp_path / 'net'), '--work-dir', str(tmp_path / 'run'), *toy.options()]
    assert toy.tool('test').main(words) == 0
    words = [str(tmp_path / 'net'), str(tmp_path / 'again'), '--kind', 'complete', '--calibrate', '0']
    assert toy.tool('deployment/pack').main(words) == 0
    assert kinds_in(tmp_path / 'net') == ('deploy', 'trainable') and kinds_in(tmp_path / 'again') == ('trainable',)
    words = [str(tmp_path / 'net'), str(tmp_path / 'again'), '--kind', 'trainable', '--overwrite']
    assert toy.tool('deployment/pack').main(words) == 0
    capsys.readouterr()
    assert toy.tool('test').main([str(tmp_path / 'again'), '--work-dir', str(tmp_path / 'run')]) == 2
    assert '--kind complete packs' in capsys.readouterr().err
