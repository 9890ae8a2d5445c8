"""The converter's command line: what it writes, says and refuses."""

import errno
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import fresh_python
import pytest
import torch

from qsdt_mm.models.backbones.presets import Arch
from qsdt_mm.published.names import BLOCK_GROUPS, name_table
from qsdt_mm.published.networks import Network, expected_tensors

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'model_converters' / 'published_to_mm.py'
ARCH = Arch('qsd', (8, 8, 16, 16, 24), (1, 1, 2, 1, 1))


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('published_to_mm', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path):
    names = name_table('qsd', dict.fromkeys(BLOCK_GROUPS, 1))
    network = Network('classifier', ARCH, 3, 10, 4)
    tensors = {names.published(name): torch.rand(shape) + 0.1 for name, shape in expected_tensors(network).items()}
    tensors['head.init_state'] = torch.ones(1)
    path = tmp_path / 'published.pth'
    torch.save(dict(model=tensors), path)
    return path


def refused(tool, capsys, *arguments):
    """Run the tool, expect its refusal, and give the one line that it wrote."""
    try:
        status = tool.main([str(argument) for argument in arguments])
    except SystemExit as left:
        status = left.code
    output = capsys.readouterr()
    assert status == 2
    assert output.out == ''
    lines = output.err.strip().splitlines()
    assert lines[-1].startswith('published_to_mm.py: error: ') and 'Traceback' not in output.err
    assert len(lines) == 1
    return lines[0]


def test_converts_and_reports(tool, capsys, tmp_path, source):
    out, report = tmp_path / 'out.pth', tmp_path / 'report.json'
    assert tool.main([str(source), str(out), '--json', str(report), '--weight-bits', '8', '--num-heads', '4']) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    checkpoint = torch.load(out, weights_only=True)
    count = len(checkpoint['state_dict'])
    assert said['family'] == 'qsd' and said['weight_bits'] == '8' and said['wrote'] == str(out)
    assert said['matched'] == f'{count} tensors'
    assert said['dropped'] == '1 tensors (1 init_state)' and said['missing'] == '0 tensors'
    figures = json.loads(report.read_text())
    assert figures['network'] == checkpoint['meta'] and checkpoint['meta']['arch']['num_heads'] == 4
    assert figures['matched'] == count and figures['dropped'] == {'init_state': 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ['out.pth', 'out.pth.py', 'published.pth', 'report.json']


def test_refusals_are_one_line_and_write_nothing(tool, capsys, tmp_path, source):
    out = tmp_path / 'out.pth'
    before = sorted(tmp_path.iterdir())
    assert 'nothing.pth does not exist' in refused(tool, capsys, tmp_path / 'nothing.pth', out)
    assert 'is a folder, not a file' in refused(tool, capsys, tmp_path, out)
    assert 'it has widths' in refused(tool, capsys, source, out, '--arch', 'qsd-15m')
    assert "error: arch='qsd-16m' is not allowed" in refused(tool, capsys, source, out, '--arch', 'qsd-16m')
    assert 'num_heads=7' in refused(tool, capsys, source, out, '--num-heads', '7')
    assert 'num_heads=0' in refused(tool, capsys, source, out, '--num-heads', '0')
    assert 'no ema weights' in refused(tool, capsys, source, out, '--weights', 'ema')
    assert 'itself' in refused(tool, capsys, source, source, '--overwrite')
    assert 'is a directory' in refused(tool, capsys, source, tmp_path)
    assert 'published.pth: ' in refused(tool, capsys, source, source / 'out.pth')
    assert '--json' in refused(tool, capsys, source, out, '--json', tmp_path)
    assert '--json' in refused(tool, capsys, source, out, '--json', tmp_path / '.' / 'out.pth')
    assert '--json' in refused(tool, capsys, source, out, '--json', source)
    assert sorted(tmp_path.iterdir()) == before


def test_converts_an_encoder(tool, capsys, tmp_path, golden):
    source, out, report = golden('spikemae_encoder_public.pth'), tmp_path / 'out.pth', tmp_path / 'report.json'
    assert 'it has widths' in refused(tool, capsys, source, out, '--arch', 'e-83m')
    assert tool.main([str(source), str(out), '--json', str(report)]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert said['num_classes'] == 'none: the encoder of Spike-MAE' and said['family'] == 'espike-large'
    figures = json.loads(report.read_text())
    assert figures['network']['num_classes'] is None and figures['dropped']['mask_token'] == 1
    assert 'decoder_*' in said['dropped']


def test_bad_options_are_refused(tool, capsys, source, tmp_path):
    for options in (['--weight-bits', '5'], ['--nothing'], ['--weights', 'best']):
        with pytest.raises(SystemExit) as left:
            tool.main([str(source), str(tmp_path / 'out.pth'), *options])
        assert left.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_damaged_files_are_refused(tool, capsys, tmp_path, source):
    whole, out = source.read_bytes(), tmp_path / 'out.pth'
    for content in (b'', b'text', whole[: len(whole) // 2]):
        source.write_bytes(content)
        assert 'truncated or damaged' in refused(tool, capsys, source, out)
    assert [p.name for p in tmp_path.iterdir()] == ['published.pth']


def test_a_name_with_line_breaks_stays_in_one_line(tool, capsys, tmp_path, source):
    checkpoint = torch.load(source, weights_only=True)
    checkpoint['model']['two\nlines'] = torch.ones(1)
    torch.save(checkpoint, source)
    assert 'left over two lines' in refused(tool, capsys, source, tmp_path / 'out.pth')


def test_an_existing_file_is_kept_unless_told_otherwise(tool, capsys, tmp_path, source):
    out = tmp_path / 'out.pth'
    out.write_text('precious')
    assert '--overwrite' in refused(tool, capsys, source, out)
    assert out.read_text() == 'precious'
    assert tool.main([str(source), str(out), '--overwrite']) == 0
    assert 'state_dict' in torch.load(out, weights_only=True)


def test_a_full_disk_leaves_nothing_behind(tool, capsys, tmp_path, source, monkeypatch):
    def save(_, file):
        file.write(b'half')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'out.pth')

    out = tmp_path / 'out.pth'
    out.write_text('precious')
    monkeypatch.setattr(torch, 'save', save)
    assert 'No space left' in refused(tool, capsys, source, out, '--overwrite')
    assert out.read_text() == 'precious' and len(list(tmp_path.iterdir())) == 2


def test_as_a_program(tmp_path, source):
    words = [str(TOOL), 'published.pth', 'out.pth']
    help_text = fresh_python.run([TOOL, '-h'], cwd=tmp_path)
    assert help_text.returncode == 0 and 'examples:' in help_text.stdout
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, text=True, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, '') and (tmp_path / 'out.pth').is_file()
    again = fresh_python.run(words, cwd=tmp_path)
    assert again.returncode == 2 and again.stderr.count('\n') == 1 and again.stdout == ''
