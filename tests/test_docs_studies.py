"""Studies of the documentation: their files, their commands, and that the page shows what was kept."""

import importlib.util
import json
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/en/studies.md'
NAMES = sorted(path.stem for path in (ROOT / 'docs/studies').glob('*.yml'))


@pytest.fixture(scope='module')
def studies():
    sys.path.append(str(ROOT / 'docs'))
    spec = importlib.util.spec_from_file_location('studies', ROOT / 'docs/studies.py')
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize('name', NAMES)
def test_every_run_has_a_folder_and_a_config_of_its_own(studies, name):
    study = studies.load(name)
    runs = list(studies.runs_of(study))
    folders = [studies.folder_name(variant, seed) for variant, seed in runs]
    assert len(set(folders)) == len(folders)
    commands = {tuple(studies.command(study, variant, seed, Path('runs'))) for variant, seed in runs}
    assert len(commands) == len(runs)
    assert all((ROOT / command[1]).is_file() for command in commands)
    assert not any('{' in option for command in commands for option in command)


@pytest.mark.parametrize('name', NAMES)
def test_options_are_what_the_configs_have(studies, name):
    """The longest change of each study; the others are parts of it or like it."""
    from qsdt_mm import cli

    study = studies.load(name)
    variant = max(study['variants'], key=lambda v: len(study['variants'][v].get('options', [])))
    line = studies.command(study, variant, 0, Path('runs'))
    cfg = cli.load_config(str(ROOT / line[1]), line[line.index('--cfg-options') + 1 :])
    assert cfg.randomness.seed == 0


@pytest.mark.parametrize('path', sorted((ROOT / 'docs/logs/studies').glob('*.json')), ids=lambda path: path.stem)
def test_what_is_kept_is_small_and_shown(studies, path):
    study, kept = studies.load(path.stem), json.loads(path.read_text(encoding='utf-8'))
    assert list(kept) == [variant for variant in study['variants'] if variant in kept]
    assert path.stat().st_size < 150_000
    page = PAGE.read_text(encoding='utf-8')
    assert studies.table(path.stem) in page, f'out of date: python docs/studies.py table {path.stem}'
    assert f'images/studies_{path.stem}.png' in page
    assert f'docs/studies.py run {path.stem}' in page


def test_runs_are_trained_once_kept_and_told(studies, tmp_path, monkeypatch, capsys):
    """With a stand-in for the trainer that writes a log, and fails for one variant."""
    trainer = tmp_path / 'tools/train.py'
    trainer.parent.mkdir()
    trainer.write_text(
        'import json, pathlib, sys\n'
        "work = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])\n"
        "sys.exit(3) if 'bad=1' in sys.argv else None\n"
        "out = work / '1/vis_data'\n"
        'out.mkdir(parents=True)\n'
        "seed = int(sys.argv[-1].rsplit('=')[-1])\n"
        "rows = [dict(lr=1.0, loss=2.0, epoch=1, iter=1, step=1), {'accuracy/top1': 50.0 + seed, 'step': 1}]\n"
        "(out / 'scalars.json').write_text('\\n'.join(map(json.dumps, rows)))\n"
    )
    folder = tmp_path / 'docs/studies'
    folder.mkdir(parents=True)
    (folder / 'small.yml').write_text(
        'title: t\nconfig: c.py\nmetric: accuracy/top1\nunit: top-1, %\nseeds: [0, 2]\n'
        'variants:\n  good: {}\n  once: {seeds: [0]}\n  bad: {options: [bad=1]}\n'
    )
    for name, value in dict(ROOT=tmp_path, STUDIES=folder, LOGS=tmp_path / 'docs/logs/studies').items():
        monkeypatch.setattr(studies, name, value)
    runs = ['--runs', str(tmp_path / 'runs')]
    assert studies.main(['run', 'small', *runs, '--only', 'good', 'once']) == 0
    first = capsys.readouterr().out.splitlines()
    assert [shlex.split(line)[2] for line in first] == ['c.py'] * 3 and first[0].endswith('seed=0')
    assert studies.main(['run', 'small', *runs]) == 1
    assert all('bad=1' in line for line in capsys.readouterr().out.splitlines())
    assert studies.main(['keep', 'small', *runs]) == studies.main(['table', 'small']) == 0
    assert '| good | 51.00 ± 1.41 | 2 |\n| once | 50.00 | 1 |\n' in capsys.readouterr().out
    for wrong in (['run', 'large'], ['run', 'small', '--only', 'bat']):
        assert studies.main(wrong) == 2
        assert capsys.readouterr().err.count('\n') == 1


def share_of_relu(threshold, most):
    """Squared correlation with ReLU, mean count and share of gradients of a neuron for a standard normal membrane."""
    import torch
    from torch.distributions import Normal

    from qsdt_mm.models import IELIF
    from qsdt_mm.models.layers.unit import response

    counts = response(IELIF(threshold=threshold, scale=1.0, max_spike_count=most))
    explained = torch.corrcoef(torch.stack([counts, response(torch.nn.ReLU())]))[0, 1].square().item()
    passing = Normal(0.0, 1.0).cdf(torch.tensor(threshold * most)).item() - 0.5
    return f'{explained:.1%} | {counts.mean().item():.2f} | {passing:.0%}'


def test_the_table_of_thresholds_is_what_neurons_do():
    lines = PAGE.read_text(encoding='utf-8').splitlines()
    start = lines.index('| threshold | D | variance explained | spikes | share with a gradient |') + 2
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[start : lines.index('', start)]]
    assert len(rows) > 5
    for threshold, most, *shown in rows:
        assert ' | '.join(shown) == share_of_relu({'1/4': 0.25, '1/2': 0.5, '1': 1.0}[threshold], int(most))
