"""Two trainings in one work directory: the second is refused, whatever it was told; a test beside one is not."""

import json
import os
import signal
import socket
import time

import pytest
import toy_runs as toy

from qsdt_mm.fileio.run_lock import LOCK, occupied

CHANGES = dict(randomness__seed=3, train_dataloader__num_workers=0, train_cfg__max_epochs=1, train_cfg__val_interval=1)


@pytest.fixture(scope='module')
def first(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('first') / 'run'
    assert toy.train(work_dir, **CHANGES) == 0
    return work_dir


@pytest.mark.parametrize('words', [(), ('--resume', 'auto'), ('--overwrite',), ('--resume', 'epoch_1.pth')])
def test_the_second_training_is_refused(first, capsys, words):
    words = [str(first / word) if word.endswith('.pth') else word for word in words]
    with occupied([first], 'train.py'):
        before = toy.files(first)
        capsys.readouterr()
        assert toy.train(first, *words, **CHANGES) == 2
        said = f'{first} is in use by train.py, process {os.getpid()} on {socket.gethostname()}, since '
        (line,) = toy.our_lines(capsys.readouterr().err)
        assert said in line
        assert toy.files(first) == before


def test_of_several_processes_the_first_holds(first, monkeypatch, capsys):
    """The others of a distributed run go on to where they meet it; they would be refused by their own run."""
    with occupied([first], 'train.py'):
        monkeypatch.setenv('RANK', '1')
        monkeypatch.setenv('QSDT_TRACEBACK', '0')
        toy.train(first, **CHANGES)  # which refuses the checkpoints that are there
        assert 'in use' not in capsys.readouterr().err


def test_a_test_beside_a_training(first, capsys):
    with occupied([first], 'train.py'):
        before = {path for path in toy.files(first) if '.pth' in path or path.endswith(LOCK)}
        assert toy.evaluate(first / 'epoch_1.pth', first, **CHANGES) == 0
        assert before <= set(toy.files(first))


def test_the_record_of_a_killed_run_is_no_lock(tmp_path, first):
    (tmp_path / 'run').mkdir()
    record = dict(program='train.py', pid=1, host=socket.gethostname(), since='yesterday')  # 1 is always there
    (tmp_path / 'run' / LOCK).write_text(json.dumps(record))
    assert toy.train(tmp_path / 'run', **CHANGES) == 0
    assert not (tmp_path / 'run' / LOCK).exists()


def test_checkpoints_in_one_other_directory(tmp_path, capsys):
    """Two work directories of one name, and one ``out_dir``."""
    config = toy.variant(
        tmp_path / 'c.py', f'default_hooks = dict(checkpoint=dict(out_dir={str(tmp_path / "store")!r}))'
    )
    with occupied([tmp_path / 'store/run'], 'train.py'):
        assert toy.train(tmp_path / 'x/run', config=config, **CHANGES) == 2
    assert f'{tmp_path / "store/run"} is in use' in capsys.readouterr().err
    assert not (tmp_path / 'x').exists()


def test_what_cannot_begin_leaves_nothing(tmp_path, capsys):
    assert toy.train(tmp_path / 'a/b/run', model__width=-1, **CHANGES) == 2
    assert not (tmp_path / 'a').exists()
    (tmp_path / 'file').write_text('mine')
    assert toy.train(tmp_path / 'file', **CHANGES) == 2
    (line,) = toy.our_lines(capsys.readouterr().err)[1:]
    assert f'work directory {tmp_path / "file"} cannot be written: ' in line
    assert (tmp_path / 'file').read_text() == 'mine'


@pytest.mark.slow
def test_two_trainings_started_at_once(tmp_path):
    """One of them runs, the other says who does; when it is killed, the directory is free at once."""
    changes = dict(CHANGES, train_cfg__max_epochs=100000, train_dataloader__num_workers=2)
    runs = [toy.start_train(tmp_path / 'run', **changes) for _ in range(2)]
    try:
        limit = time.monotonic() + 120
        while all(run.poll() is None for run in runs) and time.monotonic() < limit:
            time.sleep(0.1)
        (refused,) = [run for run in runs if run.poll() is not None]
        (running,) = [run for run in runs if run is not refused]
        assert refused.returncode == 2
        (line,) = toy.our_lines(refused.communicate()[1])
        assert f'{tmp_path / "run"} is in use by train.py, process {running.pid} on ' in line
        while not list((tmp_path / 'run').glob('epoch_*.pth')) and time.monotonic() < limit:
            time.sleep(0.1)
        os.kill(running.pid, signal.SIGKILL)  # alone: its workers are left to find out
        running.wait()
        assert (tmp_path / 'run' / LOCK).exists()
        with occupied([tmp_path / 'run'], 'train.py'):
            pass
        newest = max(int(path.stem[6:]) for path in (tmp_path / 'run').glob('epoch_*.pth'))
        assert toy.train(tmp_path / 'run', '--resume', 'auto', **dict(changes, train_cfg__max_epochs=newest + 1)) == 0
    finally:
        for run in runs:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
