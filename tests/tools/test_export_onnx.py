"""tools/deployment/export_onnx.py, and test.py on what it wrote: the same scores as from the plan."""

import pickle

import pytest
import small_digits
import torch
import toy_runs as toy
from small_digits import CONFIG, options

pytest.importorskip('mmpretrain')
pytest.importorskip('sklearn')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint of a small network."""
    return small_digits.checkpoint(tmp_path_factory.mktemp('exported') / 'new.pth')


def export(checkpoint, out, *words):
    command = [str(CONFIG), str(checkpoint), str(out), '--calibrate', '4', *map(str, words), *options()]
    return toy.tool('deployment/export_onnx').main(command)


def scores(tmp_path, source, *words):
    out = tmp_path / 'out.pkl'
    command = [str(CONFIG), str(source), '--work-dir', str(tmp_path / 'run'), '--out', str(out), *map(str, words)]
    assert toy.tool('test').main([*command, *options()]) == 0
    return torch.stack([sample['pred_score'] for sample in pickle.loads(out.read_bytes())])


def test_a_checked_file_evaluates_as_its_plan(tmp_path, checkpoint, capsys):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    out = tmp_path / 'net.onnx'
    assert export(checkpoint, out, '--check', '--batch', 2, '--weights', 'int4') == 0
    said = capsys.readouterr().out
    assert said.count('the same bits as the plan') >= 4 and 'differ' not in said
    wanted = scores(tmp_path, checkpoint, '--inference', 'deploy', '--calibrate', 4)
    assert torch.equal(scores(tmp_path, out, '--backend', 'onnxruntime'), wanted)
    before = out.read_bytes()
    with pytest.raises(SystemExit, match='2'):
        export(checkpoint, out)
    assert 'net.onnx exists: name another file' in capsys.readouterr().err and out.read_bytes() == before


def test_what_a_file_says_of_itself(tmp_path, checkpoint):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    from qsdt_mm.deploy.runtimes import Runtime

    assert export(checkpoint, tmp_path / 'net.onnx') == 0
    notes = Runtime(tmp_path / 'net.onnx').notes
    assert notes['task'] == 'classification' and notes['size'] == [32, 32] and notes['channels'] == 'grey'
    assert len(notes['classes']) == 10


@pytest.mark.parametrize('content', [b'', b'no file of this kind', b'\x08\x0a'])
def test_a_foreign_file_is_one_line(tmp_path, capsys, content):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    file = tmp_path / 'foreign.onnx'
    file.write_bytes(content)
    assert toy.tool('test').main([str(CONFIG), str(file), '--work-dir', str(tmp_path / 'run'), *options()]) == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'test.py')
    assert str(file) in line


def test_without_the_packages_a_line_says_how_to_get_them(tmp_path, checkpoint, capsys, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'onnx', None)
    assert export(checkpoint, tmp_path / 'net.onnx') == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'export_onnx.py')
    assert 'the package onnx is not installed: pip install onnx' in line


@pytest.mark.parametrize('words', [['net.txt'], ['net.onnx', '--batch', '0'], ['net.onnx', '--size', '0', '9']])
def test_bad_arguments(capsys, words):
    with pytest.raises(SystemExit, match='2'):
        toy.tool('deployment/export_onnx').main([str(CONFIG), 'x.pth', *words])
