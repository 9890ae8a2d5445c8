"""Logs that are kept with the documentation."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location('keep_log', ROOT / 'docs/keep_log.py')
keep_log = importlib.util.module_from_spec(spec)
spec.loader.exec_module(keep_log)

TRAINING = [
    dict(lr=1e-3, data_time=0.1, loss=4.0, time=1.0, epoch=1, iter=5, step=5),
    dict(lr=2e-3, data_time=0.1, loss=2.0, time=3.0, epoch=1, iter=10, step=10),
]
FIRING = {'firing/a.neuron/rate': 0.25, 'firing/a.neuron/silent': 0.0, 'firing/b.neuron/rate': 0.75, 'step': 10}
VALIDATION = {'accuracy/top1': 50.123456789, 'data_time': 0.2, 'time': 0.2, 'step': 1}


def write(work_dir, part, lines):
    folder = work_dir / part / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n')


def test_an_epoch_is_a_row_and_what_was_computed_twice_counts_once(tmp_path, monkeypatch):
    monkeypatch.setattr(keep_log, 'LOGS', tmp_path / 'docs/logs')
    write(
        tmp_path / 'run',
        '1',
        [*TRAINING, FIRING, VALIDATION, dict(lr=9.0, loss=9.0, time=9.0, epoch=2, iter=15, step=15)],
    )
    write(
        tmp_path / 'run', '2', [dict(lr=1e-4, loss=1.0, time=1.0, epoch=2, iter=15, step=15), {**VALIDATION, 'step': 2}]
    )
    (tmp_path / 'run/net.py').touch()
    path = keep_log.keep(tmp_path / 'run')
    assert path.name == 'net--run.json'
    assert json.loads(path.read_text()) == {
        'config': 'net',
        'counted_in': 'epochs',
        'rows': [
            {'at': 1, 'lr': 2e-3, 'loss': 3.0, 'time': 2.0, 'firing_rate': 0.5, 'accuracy/top1': 50.1235},
            {'at': 2, 'lr': 1e-4, 'loss': 1.0, 'time': 1.0, 'accuracy/top1': 50.1235},
        ],
    }


def test_runs_that_count_iterations(tmp_path):
    write(tmp_path, '1', [dict(lr=1.0, loss=1.0, iter=50, step=50), dict(mIoU=80.0, step=50)])
    assert keep_log.rows(keep_log.entries(tmp_path)) == [{'at': 50, 'lr': 1.0, 'loss': 1.0, 'mIoU': 80.0}]


def test_a_folder_without_a_log_is_one_line(tmp_path, capsys):
    assert keep_log.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count('\n') == 1


@pytest.mark.parametrize('path', sorted((ROOT / 'docs/logs').glob('*.json')), ids=lambda path: path.stem)
def test_what_is_kept_is_small_whole_and_of_a_config_that_exists(path):
    log = json.loads(path.read_text(encoding='utf-8'))
    assert list((ROOT / 'configs').rglob(f'{log["config"]}.py')), log['config']
    assert path.stat().st_size < 50_000 and len(log['rows']) > 1
    assert [row['at'] for row in log['rows']] == sorted({row['at'] for row in log['rows']})
