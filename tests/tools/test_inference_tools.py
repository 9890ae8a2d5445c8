"""tools/test.py --inference and tools/analysis_tools/energy.py, on digits and on folders of images."""

import json
import pickle

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy

pytest.importorskip('mmpretrain')
pytest.importorskip('sklearn')

CONFIG = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
FEW = ['--cfg-options', 'test_dataloader.dataset.indices=24', 'test_dataloader.batch_size=8']
ESPIKE = ['model.backbone.weight_bits=32', 'model.head.weight_bits=32']


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """The demo's network with new weights."""
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli

    cfg = cli.load_config(str(CONFIG))
    cli.import_library(cfg)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = cli.build_model(cfg, None, cli.Session('test'))
    path = tmp_path_factory.mktemp('weights') / 'new.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def scores(tmp_path, checkpoint, *words):
    out = tmp_path / f'{len(list(tmp_path.glob("*.pkl")))}.pkl'
    status = toy.tool('test').main(
        [
            str(CONFIG),
            str(checkpoint),
            '--work-dir',
            str(tmp_path / 'run'),
            '--out',
            str(out),
            *words,
            *toy.options()[1:],
        ]
    )
    assert status == 0
    with open(out, 'rb') as file:
        return torch.stack([sample['pred_score'] for sample in pickle.load(file)])


def test_modes(tmp_path, checkpoint, monkeypatch):
    """Rounding may let a membrane next to a threshold fire otherwise: in one image out of ten at most."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)  # rounding of float32, not of TF32
    plain, folded, integer, spike, bitwise = (
        scores(tmp_path, checkpoint, '--inference', *mode, '--json', str(tmp_path / f'{mode[-1]}.json'), *FEW)
        for mode in (['float'], ['folded'], ['integer'], ['spike'], ['spike', '--coding', 'bitwise'])
    )
    assert torch.equal(integer, spike) and torch.equal(integer, bitwise)
    for other in (folded, integer):
        assert ((plain - other).abs().amax(1) < 1e-4).float().mean() > 0.9
    assert plain.std() > 0
    reports = [json.loads((tmp_path / f'{name}.json').read_text()) for name in ('integer', 'spike', 'bitwise')]
    assert [report['inference'] for report in reports] == ['integer', 'spike', 'spike']
    assert [report.get('coding') for report in reports] == [None, 'unary', 'bitwise']


@pytest.mark.parametrize(
    ('name', 'words', 'line'),
    [
        ('test', ['--coding', 'bitwise'], 'test.py: error: --coding goes with --inference spike'),
        ('test', ['--coding', 'unary', '--inference', 'integer'], 'error: --coding goes with --inference spike'),
        ('analysis_tools/benchmark', ['--coding', 'bitwise'], '--coding goes with --mode spike, got --mode train'),
        ('analysis_tools/compare_inference', ['--coding', 'binary'], "invalid choice: 'binary'"),
    ],
)
def test_coding_where_nothing_has_slots(name, words, line, capsys):
    with pytest.raises(SystemExit) as caught:
        toy.tool(name).main([str(CONFIG), 'none.pth', *words])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and line in error and error.count('\n') == 1


def test_real_weights_need_bits(tmp_path, checkpoint, capsys):
    arguments = [str(CONFIG), str(checkpoint), '--work-dir', str(tmp_path / 'run'), '--allow-mismatch']
    status = toy.tool('test').main([*arguments, '--inference', 'integer', *FEW, *ESPIKE, *toy.options()[1:]])
    lines = toy.our_lines(capsys.readouterr().err, 'test.py')
    assert status == 2 and len(lines) == 1 and 'has real weights, which mode integer has to quantize' in lines[0]
    assert not (tmp_path / 'run').exists()
    words = ['--inference', 'integer', '--weight-bits', '8', *FEW, *ESPIKE, *toy.options()[1:]]  # a name of its own
    assert toy.tool('test').main([*arguments, *words]) == 0


def energy(*words):
    return toy.tool('analysis_tools/energy').main([str(CONFIG), *map(str, words)])


def test_energy_of_test_images(tmp_path, checkpoint, capsys):
    words = ['--images', 16, '--json', tmp_path / 'e.json', '--plot', tmp_path / 'e.png', '--preset', 'int8']
    assert energy(checkpoint, *words) == 0
    text = capsys.readouterr().out
    report = json.loads((tmp_path / 'e.json').read_text())
    assert report['images'] == 16 and report['preset']['name'] == 'int8'
    assert 'int8: 0.23 pJ a MAC, 0.03 pJ an AC' in text and 'unmerged: ' in text
    assert f'{report["total"]["energy_mj"]:.5g} mJ an image' in text
    assert all(row['name'] in text for row in report['layers'])
    assert 'head.fc.synapse' in text and 'backbone.stages.3.blocks.0.0.branch.product' in text
    assert (tmp_path / 'e.png').read_bytes().startswith(b'\x89PNG')


def test_energy_with_memory(tmp_path, checkpoint, capsys):
    (tmp_path / 'mine.yaml').write_text('name: mine\nlevels: {register: 0.5, sram: 2, flash: {read: 3, write: 90}}\n')
    words = ['--images', 2, '--json', tmp_path / 'e.json', '--coding', 'bitwise', '--energies', tmp_path / 'mine.yaml']
    assert energy(checkpoint, *words, '--place', 'weights=flash', '--dataflow', 'weight-stationary') == 0
    text = capsys.readouterr().out
    report = json.loads((tmp_path / 'e.json').read_text())
    memory = report['memory']
    assert report['coding'] == 'bitwise' and report['total']['shifts'] > 0 and 'shifts of sums between slots' in text
    assert memory['energies']['placement']['weights'] == 'flash' and memory['energies']['name'].startswith('mine (add')
    assert [*memory['forms']] == ['weight-stationary'] == [*memory['assumptions']]
    forms = memory['forms']['weight-stationary']
    for name, form in forms.items():
        rows = [row for row in form['accesses'] if row['level'] == 'flash']
        assert {row['kind'] for row in rows} == {'weights'}
        assert form['by_level_mj']['flash'] == pytest.approx(sum(3e-9 * row['bits'] * row['reads'] for row in rows))
        assert f'{1000 * form["energy_mj"]:.4g}' in text and name in text
    assert 'footprint' in text and report['neurobench']['synaptic_operations']['Dense'] == report['total']['dense_macs']


@pytest.mark.parametrize(
    ('words', 'hint'),
    [
        (['--energies', 'none.json'], 'none.json cannot be read: No such file or directory'),
        (['--place', 'weights=l2'], 'weights=l2 is no place: expected one of weights, activations, membranes'),
        (['--place', 'weights'], '--place takes KIND=LEVEL, such as weights=dram, got weights'),
    ],
)
def test_energies_that_are_none(checkpoint, capsys, words, hint):
    try:
        assert energy(checkpoint, *words) == 2
    except SystemExit as left:
        assert left.code == 2
    error = capsys.readouterr().err
    assert hint in error and error.count('\n') == 1


def test_energy_of_a_folder_with_random_weights(tmp_path, capsys):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((8, 8), 40 * i, np.uint8))
    assert energy('--images', tmp_path, '--merge') == 0  # pictures are read in colour, and the config greys them
    text = capsys.readouterr().out
    assert 'random weights' in text and 'merged: ' in text and 'images         3' in text


@pytest.mark.parametrize(
    ('words', 'hint'),
    [
        (['none.pth'], 'none.pth'),
        (['--images', 'nowhere'], '--images nowhere is neither a number nor a folder'),
        (['--images', '.'], 'holds no images'),
        (['--cfg-options', 'model.backbone.neuron.type=ReLU'], 'expected a spiking neuron'),
    ],
)
def test_energy_refuses_bad_input(tmp_path, monkeypatch, capsys, words, hint):
    monkeypatch.chdir(tmp_path)
    assert energy(*words) == 2
    lines = toy.our_lines(capsys.readouterr().err, 'energy.py')
    assert len(lines) == 1 and hint in lines[0]


@pytest.mark.parametrize(('coding', 'slots'), [('unary', 4), ('bitwise', 3)])
def test_comparison(tmp_path, checkpoint, capsys, coding, slots):
    tool = toy.tool('analysis_tools/compare_inference')
    words = [str(CONFIG), str(checkpoint), '--images', '20', '--json', str(tmp_path / 'c.json'), '--coding', coding]
    assert tool.main([*words, '--cfg-options', 'test_dataloader.batch_size=8']) == 0
    text = capsys.readouterr().out
    figures = json.loads((tmp_path / 'c.json').read_text())
    assert 'equal, bit for bit' in text and figures['integer_equals_spike'] is True
    assert figures['images'] == figures['decisions'] == 20 and figures['same_decisions'] >= 19
    assert (figures['coding'], figures['slots']) == (coding, slots) and f' for {slots} {coding} slots; ' in text
    assert 0 < figures['worst_unit_relative_error'] < 1e-4
    assert figures['spike_time_by_integer_time'] > 0
