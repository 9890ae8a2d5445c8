"""tools/deployment/export_nir.py: the bits of the plan as far as the format goes, and a list of the rest."""

import pytest
import small_digits
import toy_runs as toy
from small_digits import CONFIG, options

pytest.importorskip('mmpretrain')
pytest.importorskip('sklearn')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint of a small network."""
    return small_digits.checkpoint(tmp_path_factory.mktemp('exported') / 'new.pth')


def export(checkpoint, out, *words, changes=()):
    command = [str(CONFIG), str(checkpoint), str(out), '--calibrate', '4', *words, *options(), *changes]
    return toy.tool('deployment/export_nir').main(command)


def test_what_cannot_go_is_listed_and_refused_unless_a_part_is_enough(tmp_path, checkpoint, capsys):
    nir = pytest.importorskip('nir')
    out = tmp_path / 'net.nir'
    assert export(checkpoint, out) == 2
    said = capsys.readouterr()
    (line,) = toy.our_lines(said.err, 'export_nir.py')
    assert 'cannot carry the whole network; --partial' in line and not out.exists()
    assert 'missing  the product of query, key and value' in said.out
    assert export(checkpoint, out, '--partial', '--check') == 0
    said = capsys.readouterr().out
    assert 'the same bits as the plan on 9 pictures' in said and 'output   ' in said and 'grey' in said
    graph = nir.read(str(out))
    assert any(isinstance(node, nir.Threshold) for node in graph.nodes.values())
    assert list(tmp_path.iterdir()) == [out]
    before = out.read_bytes()
    with pytest.raises(SystemExit, match='2'):
        export(checkpoint, out, '--partial')
    assert 'net.nir exists: name another file' in capsys.readouterr().err and out.read_bytes() == before


def test_convolution_stages_go_whole(tmp_path, checkpoint, capsys):
    pytest.importorskip('nir')
    changes = ['model.backbone.arch.depths=[1,1,0,0,0]']
    path = tmp_path / 'convolutions.pth'
    small_digits.checkpoint(path, changes)
    assert export(path, tmp_path / 'net.nir', '--check', changes=changes) == 0
    said = capsys.readouterr().out
    assert 'the same bits' in said and 'missing' not in said


def test_other_bits_are_not_written(tmp_path, checkpoint, capsys, monkeypatch):
    pytest.importorskip('nir')
    from qsdt_mm.deploy import nir_reference

    monkeypatch.setitem(nir_reference.RULES, 'Threshold', lambda node, x: (x >= 1).double())
    assert export(checkpoint, tmp_path / 'net.nir', '--partial', '--check') == 1
    assert 'differ from the plan' in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_without_the_packages_a_line_says_how_to_get_them(tmp_path, checkpoint, capsys, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'nir', None)
    assert export(checkpoint, tmp_path / 'net.nir') == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'export_nir.py')
    assert 'pip install nir h5py' in line and '.[deploy-nir]' in line


@pytest.mark.parametrize('words', [['net.h5'], ['net.nir', '--calibrate', '0'], ['net.nir', '--size', '0', '9']])
def test_bad_arguments(capsys, words):
    with pytest.raises(SystemExit, match='2'):
        toy.tool('deployment/export_nir').main([str(CONFIG), 'x.pth', *words])


@pytest.mark.parametrize('ending', ['nir', 'onnx'])
def test_a_name_that_is_too_long_is_one_line(tmp_path, capsys, ending):
    for length in (300, 248):  # what is written beside it has a longer one
        with pytest.raises(SystemExit, match='2'):
            command = [str(CONFIG), 'x.pth', str(tmp_path / f'{"n" * length}.{ending}')]
            toy.tool(f'deployment/export_{ending}').main(command)
        error = capsys.readouterr().err
        assert 'cannot be written: File name too long' in error and error.count('\n') == 1
