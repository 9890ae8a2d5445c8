"""tools/analysis_tools/compare_runs.py: trainings side by side."""

import json

import pytest
import toy_runs as toy

from qsdt_mm.cli.runs import differences, read_run


def main(*words):
    return toy.tool('analysis_tools/compare_runs').main([str(word) for word in words])


def written(folder, lr, accuracies, stamp='20260101_000000', metric='accuracy/top1', config=True):
    """A work directory as a training leaves it."""
    at = folder / stamp / 'vis_data'
    at.mkdir(parents=True)
    lines = []
    for step, value in enumerate(accuracies, 1):
        lines.append(dict(lr=lr, loss=2.0 / step, time=0.1, step=10 * step))
        lines.append(
            {'firing/a/rate': 0.1 * step, 'firing/b/rate': 0.3 * step, 'firing/a/silent': 0.9, 'step': 10 * step}
        )
        lines.append({metric: value, 'data_time': 0.1, 'step': step})
    (at / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    if config:
        optimizer = f"optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr={lr}))"
        text = f"lr = {lr}\nwork_dir = 'x{lr}'\n{optimizer}\n"
        (at / 'config.py').write_text(text)
    return folder


def test_two_runs_in_a_table_and_a_picture(tmp_path, capsys):
    a = written(tmp_path / 'a', 0.1, [50.0, 80.0, 70.0])
    b = written(tmp_path / 'b', 0.2, [60.0, 65.0])
    assert main(a, b, tmp_path, '--out', tmp_path / 'runs.png') == 0
    out, error = capsys.readouterr()
    head, first, second, *_ = (line.split() for line in out.splitlines())
    assert head[:4] == ['run', 'optim_wrapper.optimizer.lr', 'best', 'accuracy/top1']
    assert first == ['a', '0.1', '80.0', '%', '2', '70.0', '%', '0.600']
    assert second == ['b', '0.2', '65.0', '%', '2', '65.0', '%', '0.400']
    assert (tmp_path / 'runs.png').read_bytes()[:4] == b'\x89PNG'
    assert 'passed over' in error and error.count('\n') == 1


def test_settings_that_differ(tmp_path):
    runs = [read_run(written(tmp_path / str(lr), lr, [1.0]), str(lr)) for lr in (0.1, 0.2)]
    assert differences(runs) == {'optim_wrapper.optimizer.lr': [0.1, 0.2]}
    assert differences(runs[:1]) == {}


def test_a_resumed_run_and_one_that_was_killed(tmp_path):
    run = written(tmp_path / 'run', 0.1, [50.0, 60.0])
    written(run, 0.1, [51.0, 61.0, 71.0], stamp='20260102_000000')
    with (run / '20260102_000000/vis_data/scalars.json').open('a') as file:
        file.write('{"lr": 0.1, "lo')
    assert read_run(run, 'run').curve('accuracy/top1') == [(1, 51.0), (2, 61.0), (3, 71.0)]


def test_losses_are_compared_where_nothing_is_validated(tmp_path, capsys):
    assert main(written(tmp_path / 'mae', 0.1, [1.0, 1.0], metric='data_time')) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ['mae', '1', '20', '1', '0.400']


@pytest.mark.parametrize('words', [['{tmp}'], ['{tmp}/none'], ['{tmp}', '{tmp}/none'], ['{tmp}/a', '--metric', 'mIoU']])
def test_what_is_no_run_is_one_line(words, tmp_path, capsys):
    written(tmp_path / 'a', 0.1, [1.0], config=False)
    assert main(*(word.format(tmp=tmp_path) for word in words)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if 'passed over' not in line]
    assert len(lines) == 1 and lines[0].startswith('compare_runs.py: error: ')


def test_a_damaged_file_names_its_line(tmp_path, capsys):
    file = written(tmp_path / 'a', 0.1, [1.0]) / '20260101_000000/vis_data/scalars.json'
    file.write_text('nonsense\n' + file.read_text())
    assert main(tmp_path / 'a') == 2
    assert 'line 1: no JSON with a step' in capsys.readouterr().err
