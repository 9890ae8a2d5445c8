"""The way back on the command line: what it writes, says and refuses."""

import json
import subprocess
import sys

import pytest
import torch
import toy_runs as toy

from qsdt_mm.models.backbones.presets import Arch
from qsdt_mm.published.networks import Network, skeleton

TOOL = 'model_converters/published_from_mm'


@pytest.fixture
def source(tmp_path):
    """A checkpoint as a runner writes it."""
    state = skeleton(Network('classifier', Arch('qsd', (4, 8, 8, 16, 24), (1, 1, 2, 3, 1)), 3, 10, 4))
    for name, tensor in state.items():
        state[name] = torch.tensor(7) if name.endswith('num_batches_tracked') else torch.rand(tensor.shape) + 0.1
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(meta=dict(epoch=1, cfg='import os'), state_dict=state), path)
    return path


def refused(capsys, *words):
    assert toy.tool(TOOL).main([str(word) for word in words]) == 2
    output = capsys.readouterr()
    lines = output.err.splitlines()
    assert output.out == '' and len(lines) == 1 and lines[0].startswith('published_from_mm.py: error: ')
    return lines[0]


def test_writes_and_reports(capsys, tmp_path, source):
    out, report = tmp_path / 'out.pth', tmp_path / 'report.json'
    assert toy.tool(TOOL).main([str(source), str(out), '--json', str(report)]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    state = torch.load(out, weights_only=True)['model']
    steps = sum(name.endswith('.alpha') and '.act.' not in name for name in state)
    assert said['tensors'] == f'{len(state)}, of them added {steps} init_state, {4 * steps} act.*'
    assert said['build'] == 'embed_dim=[8, 8, 16, 24], depths=4, in_channels=3, num_classes=10'
    assert json.loads(report.read_text())['added'] == {'init_state': steps, 'act.*': 4 * steps}
    assert sorted(p.name for p in tmp_path.iterdir()) == ['epoch_1.pth', 'out.pth', 'report.json']


def test_there_and_back(capsys, tmp_path, source):
    """What the way back wrote is a published checkpoint to the converter."""
    assert toy.tool(TOOL).main([str(source), str(tmp_path / 'out.pth')]) == 0
    words = [str(tmp_path / 'out.pth'), str(tmp_path / 'again.pth')]
    assert toy.tool('model_converters/published_to_mm').main(words) == 0
    before, after = (torch.load(path, weights_only=True)['state_dict'] for path in (source, tmp_path / 'again.pth'))
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)
    assert 'note' in capsys.readouterr().out  # the bits, which tensors do not show


def test_refusals_are_one_line_and_write_nothing(capsys, tmp_path, source, golden):
    out = tmp_path / 'out.pth'
    before = sorted(tmp_path.iterdir())
    assert 'nothing.pth does not exist' in refused(capsys, tmp_path / 'nothing.pth', out)
    assert 'is the checkpoint itself' in refused(capsys, source, source, '--overwrite')
    assert 'is a directory' in refused(capsys, source, tmp_path)
    with pytest.raises(SystemExit, match='2'):  # by the parser, as in every tool
        toy.tool(TOOL).main([str(source), str(out), '--json', str(source)])
    assert '--json' in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    out.write_text('precious')
    assert '--overwrite' in refused(capsys, source, out)
    assert out.read_text() == 'precious'
    assert toy.tool(TOOL).main([str(source), str(out), '--overwrite']) == 0
    capsys.readouterr()
    assert 'is no classifier' in refused(capsys, golden('seg_fpn_public.pth'), tmp_path / 'other.pth')


def test_as_a_program(tmp_path, source):
    words = [sys.executable, str(toy.ROOT / 'tools' / f'{TOOL}.py'), 'epoch_1.pth', 'out.pth']
    done = subprocess.run(words, cwd=tmp_path, text=True, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, '') and (tmp_path / 'out.pth').is_file()
