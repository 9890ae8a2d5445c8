"""Resuming gives, bit for bit, what an uninterrupted run gives."""

import multiprocessing
import os
import signal
import sys
import time

import pytest
import torch
import toy_runs as toy

from qsdt_mm.cli import run

ITERATIONS = """
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True))
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=12, val_interval=5)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=12, by_epoch=False)]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5))
log_processor = dict(by_epoch=False)
"""


def wait_for(condition, process, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_killed_and_resumed_equals_uninterrupted(tmp_path, capsys):
    straight, broken = tmp_path / 'straight', tmp_path / 'broken'
    assert toy.train(straight, randomness__seed=3) == 0
    process = toy.copied_train(broken, randomness__seed=3, train_dataloader__dataset__delay=0.08)
    try:
        wait_for((broken / 'epoch_2.pth').exists, process)
        time.sleep(0.2)  # into the third epoch
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (broken / 'epoch_4.pth').exists()
    capsys.readouterr()
    assert toy.train(broken, '--resume', 'auto', randomness__seed=3) == 0
    assert 'resuming from' in capsys.readouterr().err
    assert toy.training_differences(straight / 'epoch_4.pth', broken / 'epoch_4.pth') == []
    assert toy.training_differences(straight / 'epoch_3.pth', broken / 'epoch_4.pth') != []


@pytest.mark.parametrize('workers', [0, 2])
def test_epochs_without_a_seed_in_the_config(tmp_path, workers):
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    changes = dict(train_dataloader__num_workers=workers)
    assert toy.train(straight, **changes) == 0
    toy.copy_start(straight, resumed, 'epoch_1.pth')
    assert toy.train(resumed, '--resume', **changes) == 0
    assert toy.training_differences(straight / 'epoch_4.pth', resumed / 'epoch_4.pth') == []


@pytest.mark.parametrize('workers', [0, 2])
def test_iterations(tmp_path, workers):
    config = toy.variant(tmp_path / 'iterations.py', ITERATIONS)
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    changes = dict(train_dataloader__num_workers=workers)
    assert toy.train(straight, config=config, **changes) == 0
    toy.copy_start(straight, resumed, 'iter_5.pth')
    assert toy.train(resumed, '--resume', config=config, **changes) == 0
    assert toy.training_differences(straight / 'iter_12.pth', resumed / 'iter_12.pth') == []


def test_what_the_model_draws_does_not_depend_on_the_loader(tmp_path):
    changes = dict(randomness__seed=5, train_dataloader__dataset__augment='idle', train_cfg__max_epochs=2)
    for workers in (0, 2):
        assert toy.train(tmp_path / str(workers), train_dataloader__num_workers=workers, **changes) == 0
    assert toy.training_differences(tmp_path / '0' / 'epoch_2.pth', tmp_path / '2' / 'epoch_2.pth') == []


def test_without_the_hook_a_resumed_run_differs(tmp_path):
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    config = toy.variant(tmp_path / 'plain.py', f'{toy.WITHOUT_RESEED}\nrandomness = dict(seed=1)')
    assert toy.train(straight, config=config) == 0
    toy.copy_start(straight, resumed, 'epoch_1.pth')
    assert toy.train(resumed, '--resume', config=config) == 0
    assert toy.training_differences(straight / 'epoch_4.pth', resumed / 'epoch_4.pth') != []


@pytest.mark.parametrize('hook', [True, False])
def test_workers_draw_anew_in_each_epoch(tmp_path, monkeypatch, hook):
    config = toy.variant(
        tmp_path / 'ordered.py',
        'train_dataloader = dict(sampler=dict(shuffle=False))\n'
        'randomness = dict(seed=1)\nval_cfg = val_dataloader = val_evaluator = None\n'
        + ('' if hook else toy.WITHOUT_RESEED),
    )
    trace = tmp_path / 'trace'
    monkeypatch.setenv('TOY_TRACE', str(trace))
    assert toy.train(tmp_path / 'run', config=config, train_cfg__max_epochs=2) == 0
    drawn = {}
    for line in trace.read_text().splitlines():
        index, value = line.split()
        drawn.setdefault(index, []).append(value)
    assert len(drawn) == 24 and all(len(values) == 2 for values in drawn.values())
    repeated = sum(first == second for first, second in drawn.values())
    assert repeated == (0 if hook else 24)  # mmengine's own seeding repeats every augmentation


def test_seeds_differ_by_every_part():
    from qsdt_mm.engine.hooks.reseed import mix_seed

    seeds = [
        mix_seed('model', seed, rank, epoch, iteration)
        for seed in (0, 1)
        for rank in (0, 1)
        for epoch in (0, 1)
        for iteration in (0, 1)
    ]
    assert len({*seeds, mix_seed('data', 0, 0, 0, 0)}) == len(seeds) + 1
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix_seed('model', 0, 0, 0, 0) == 5754272697072572121  # the same on every machine


@pytest.mark.parametrize('value', [0, -1, 'often', True, 1.5])
def test_bad_restart_interval(value):
    from qsdt_mm.engine.hooks import ReseedHook

    with pytest.raises(ValueError, match='restart_workers_every'):
        ReseedHook(restart_workers_every=value)


@pytest.mark.parametrize('how', ['auto', 'named', 'start', 'test'])
def test_a_checkpoint_is_read_once(tmp_path, monkeypatch, how):
    from qsdt_mm.fileio import checkpoint

    work_dir, read = tmp_path / 'run', []
    assert toy.train(work_dir, train_cfg__max_epochs=1) == 0
    file, load = work_dir / 'epoch_1.pth', checkpoint.load_as_data
    monkeypatch.setattr(checkpoint, 'load_as_data', lambda path, *args: read.append(str(path)) or load(path, *args))
    monkeypatch.setattr(torch, 'load', note_paths(torch.load, read))
    if how == 'test':
        assert toy.evaluate(file, tmp_path / 'test') == 0
    elif how == 'start':
        assert toy.train(tmp_path / 'other', load_from=str(file), train_cfg__max_epochs=1) == 0
    else:
        words = ['--resume', 'auto' if how == 'auto' else file]
        assert toy.train(work_dir, *words, train_cfg__max_epochs=2) == 0
        assert (work_dir / 'epoch_2.pth').is_file()
    assert read.count(str(file)) == 1


def note_paths(load, read):
    """``torch.load`` that notes what it loads, unless it was called on behalf of our own loading."""

    def noting(file, *args, **kwargs):
        caller = sys._getframe(1).f_code.co_filename
        if not caller.endswith('safe_load.py'):
            read.append(str(file))
        return load(file, *args, **kwargs)

    return noting


@pytest.mark.parametrize('kind', ['iterations', 'persistent workers'])
def test_no_worker_outlives_a_run(tmp_path, monkeypatch, kind):
    """Even if somebody keeps the runner: at exit Python waits five seconds for each worker."""
    runners, build = [], run.build_runner
    monkeypatch.setattr(run, 'build_runner', lambda cfg: runners.append(build(cfg)) or runners[-1])
    before = set(multiprocessing.active_children())
    if kind == 'iterations':
        config = toy.variant(tmp_path / 'iterations.py', ITERATIONS)
        assert toy.train(tmp_path / 'run', config=config) == 0
    else:
        loader = dict(train_dataloader__persistent_workers=True, train_dataloader__num_workers=1)
        assert toy.train(tmp_path / 'run', train_cfg__max_epochs=1, **loader) == 0
    assert len(runners) == 1 and set(multiprocessing.active_children()) <= before
