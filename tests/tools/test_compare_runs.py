"""tools/analysis_tools/compare_runs.py: trainings side by side."""

import json

import pytest
import toy_runs as toy

from qsdt_mm.cli.runs import differences, read_run
from qsdt_mm.visualization.runs import draw_runs


def main(*words):
    return toy.tool('analysis_tools/compare_runs').main([str(word) for word in words])


def written(folder, lr, accuracies, stamp='20260101_000000', metric='accuracy/top1', config=True, energy=None, begin=1):
    """A work directory as a training leaves it."""
    at = folder / stamp / 'vis_data'
    at.mkdir(parents=True)
    lines = []
    for step, value in enumerate(accuracies, begin):
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
    log = (
        '2026/01/01 23:59:00 - mmengine - INFO - Epoch(train) [1][10/10]\nno time\n2026/01/02 00:00:30 - mmengine - x\n'
    )
    (at.parent / 'a.log').write_text(log)
    if energy is not None:
        (folder / 'energy.json').write_text(json.dumps(dict(total=dict(energy_mj=energy, dense_energy_mj=2 * energy))))
    return folder


def test_two_runs_in_a_table_and_a_picture(tmp_path, capsys):
    a = written(tmp_path / 'a', 0.1, [50.0, 80.0, 70.0])
    b = written(tmp_path / 'b', 0.2, [60.0, 65.0], energy=0.025)
    assert main(a, b, tmp_path, '--out', tmp_path / 'runs.png') == 0
    out, error = capsys.readouterr()
    head, first, second, *_ = (line.split() for line in out.splitlines())
    assert head[:4] == ['run', 'optim_wrapper.optimizer.lr', 'best', 'accuracy/top1']
    assert first == ['a', '0.1', '80.0', '%', '2', '70.0', '%', '0.600', '-', '1.5']
    assert second == ['b', '0.2', '65.0', '%', '2', '65.0', '%', '0.400', '0.025', '1.5']
    assert (tmp_path / 'runs.png').read_bytes()[:4] == b'\x89PNG'
    assert 'passed over' in error and error.count('\n') == 1


def test_settings_that_differ(tmp_path):
    runs = [read_run(written(tmp_path / str(lr), lr, [1.0]), str(lr)) for lr in (0.1, 0.2)]
    assert differences(runs) == {'optim_wrapper.optimizer.lr': [0.1, 0.2]}
    assert differences(runs[:1]) == {}
    runs[0].settings['default_hooks.energy.type'] = 'EnergyHook'  # a run of before there was one is no other training
    assert len(differences(runs)) == 1


def test_a_resumed_run_and_one_that_was_killed(tmp_path):
    run = written(tmp_path / 'run', 0.1, [50.0, 60.0])
    written(run, 0.1, [51.0, 61.0, 71.0], stamp='20260102_000000')
    with (run / '20260102_000000/vis_data/scalars.json').open('a') as file:
        file.write('{"lr": 0.1, "lo')
    assert read_run(run, 'run').curve('accuracy/top1') == [(1, 51.0), (2, 61.0), (3, 71.0)]


def test_firing_energy_and_time(tmp_path):
    run = read_run(written(tmp_path / 'run', 0.1, [50.0, 60.0], energy=0.5), 'run')
    assert run.firing[1] == (20, {'a': (0.2, 0.9, 0.0), 'b': (0.6, 0.0, 0.0)})
    assert (run.per_epoch, run.seconds, run.energy, run.dense_energy) == (10, 90.0, 0.5, 1.0)
    written(tmp_path / 'run', 0.1, [60.0], stamp='20260102_000000', begin=2)
    assert read_run(tmp_path / 'run', 'run').seconds == 180.0  # of both parts of a run that was resumed


@pytest.mark.parametrize('text', ['', '[1]', '{}', '{"total": {"energy_mj": "x", "dense_energy_mj": 1}}'])
def test_another_file_named_energy(tmp_path, text):
    folder = written(tmp_path / 'run', 0.1, [50.0])
    (folder / 'energy.json').write_text(text)
    assert read_run(folder, 'run').energy is None


@pytest.mark.parametrize('of_energy', [True, False])
def test_a_dot_for_each_run(of_energy):
    curve = [(1, 50.0)]
    figure = draw_runs(
        'top1', dict(a=curve, b=curve), dict(a=curve, b=[]), dict(a=(0.1, 50.0), b=(0.2, 60.0)), of_energy
    )
    dots = figure.axes[2]
    assert [line.get_xydata().tolist() for line in dots.lines] == [[[0.1, 50.0]], [[0.2, 60.0]]]
    assert dots.get_xlabel() == ('mJ an image, operations' if of_energy else 'mean firing rate')


def test_a_run_that_began_anew_is_not_mixed_with_the_one_before(tmp_path):
    folder = written(tmp_path / 'run', 0.1, [50.0, 60.0, 99.0])
    written(folder, 0.1, [51.0], stamp='20260102_000000')
    written(folder, 0.1, [52.0], stamp='20260103_000000', begin=2)
    run = read_run(folder, 'run')
    assert run.curve('accuracy/top1') == [(1, 51.0), (2, 52.0)] and run.seconds == 180.0


def test_losses_are_compared_where_nothing_is_validated(tmp_path, capsys):
    assert main(written(tmp_path / 'mae', 0.1, [1.0, 1.0], metric='data_time')) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ['mae', '1', '20', '1', '0.400', '-', '1.5']


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
