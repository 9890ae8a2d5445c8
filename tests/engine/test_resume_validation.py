"""A validation that was cut short is made up for when the run goes on; one that was done is not done again."""

import pytest
import toy_runs as toy
import toy_states as states

BEST = "save_best='acc', rule='greater', max_keep_ckpts=3"
STOPPING = "dict(type='EarlyStoppingHook', monitor='acc', min_delta=0.0, patience=2)"
LOOPS = {
    'epochs': (False, f'default_hooks = dict(checkpoint=dict({BEST}))\n', 3, 'epoch'),
    'iterations': (True, f"default_hooks['checkpoint'].update({BEST})\n", 4, 'iter'),
}


def write(path, loop, scores, *hooks):
    iterations, best, *_ = LOOPS[loop]
    hooks = ["dict(type='EMAHook', momentum=0.1)", STOPPING, *hooks]
    return states.config(path, f'{best}{states.SCORES.format(scores)}custom_hooks = [{", ".join(hooks)}]\n', iterations)


@pytest.fixture
def asked(monkeypatch):
    """The iterations after which a run has validated."""
    monkeypatch.setattr(states.ScoresByIteration, 'asked', [])
    return states.ScoresByIteration.asked


def done(asked):
    """The validations since this was called before, but for the rehearsal of each start."""
    found, asked[:] = [number for number in asked if number > 1], []
    return found


@pytest.mark.parametrize(
    ('loop', 'interval', 'kind'),
    [
        ('epochs', 1, 'SafeCheckpointHook'),
        ('epochs', 2, 'CheckpointHook'),
        ('iterations', 1, 'CheckpointHook'),
        ('iterations', 2, 'SafeCheckpointHook'),
        pytest.param('epochs', 2, 'SafeCheckpointHook', marks=pytest.mark.slow),
        pytest.param('iterations', 1, 'SafeCheckpointHook', marks=pytest.mark.slow),
    ],
)
def test_made_up(tmp_path, asked, loop, interval, kind):
    """After the first interval or the second: the checkpoints are those of a run without a stop."""
    _, _, length, unit = LOOPS[loop]
    at, ends = interval * length, dict(epoch=[3, 6, 9], iter=[4, 8, 9])[unit]
    scores = {at: 0.5, ends[-1]: 0.3}
    changes = dict(default_hooks__checkpoint__type=kind)
    config = write(tmp_path / 'c.py', loop, scores)
    assert toy.train(tmp_path / 'straight', config=config, **changes) == 0
    assert done(asked) == ends
    cut = write(tmp_path / 'cut.py', loop, scores, f"dict(type='InterruptHook', at={at})")
    work_dir = tmp_path / 'cut'
    assert toy.train(work_dir, config=cut, **changes) == 130
    assert done(asked) == ends[: interval - 1] and not list(work_dir.glob(f'best*_{at // length}.pth'))
    assert toy.train(work_dir, '--resume', config=config, **changes) == 0
    assert done(asked) == ends[interval - 1 :]
    names = sorted(path.name for path in work_dir.glob('*.pth'))
    best = f'best_acc_{unit}_{interval if unit == "epoch" else at}.pth'
    assert best in names and names == sorted(path.name for path in (tmp_path / 'straight').glob('*.pth'))
    for name in names:
        if not name.startswith('best'):
            assert states.all_differences(tmp_path / 'straight' / name, work_dir / name) == [], name
    first, second = (toy.state(folder / best)['state_dict'] for folder in (tmp_path / 'straight', work_dir))
    assert toy.differences(first, second) == []  # averaged weights
    assert toy.train(work_dir, '--resume', config=config, **changes) == 0
    assert done(asked) == []


def test_a_last_validation_that_was_cut_short_can_become_the_best(tmp_path, asked):
    cut = write(tmp_path / 'cut.py', 'epochs', {3: 0.1, 9: 0.5}, "dict(type='InterruptHook', at=9)")
    work_dir = tmp_path / 'run'
    assert toy.train(work_dir, config=cut) == 130
    assert [path.name for path in work_dir.glob('best*')] == ['best_acc_epoch_1.pth']
    config = write(tmp_path / 'c.py', 'epochs', {3: 0.1, 9: 0.5})
    assert toy.train(work_dir, '--resume', config=config) == 0
    assert [path.name for path in work_dir.glob('best*')] == ['best_acc_epoch_3.pth']


def test_made_up_validations_stop_early_and_may_be_left_out(tmp_path, asked):
    scores = {3: 0.5, 6: 0.3, 9: 0.2}
    cut = write(tmp_path / 'cut.py', 'epochs', scores, "dict(type='InterruptHook', at=9)")
    work_dir = tmp_path / 'run'
    changes = dict(train_cfg__max_epochs=4)
    assert toy.train(work_dir, config=cut, **changes) == 130
    done(asked)
    toy.copy_start(work_dir, tmp_path / 'silent', 'epoch_3.pth')
    assert toy.train(work_dir, '--resume', config=write(tmp_path / 'c.py', 'epochs', scores), **changes) == 0
    assert done(asked) == [9] and not (work_dir / 'epoch_4.pth').exists()
    config = toy.variant(tmp_path / 'plain.py', states.IMPORTS + states.SMALL)
    assert toy.train(tmp_path / 'silent', '--resume', '--no-validate', config=config, **changes) == 0
    assert (tmp_path / 'silent/epoch_4.pth').exists() and done(asked) == []


def test_validations_are_made_up_where_they_are_due_only(tmp_path, asked):
    """Not after an epoch without one, and not before the first."""
    config = write(tmp_path / 'c.py', 'epochs', {})
    for number, changes in ((1, dict(train_cfg__val_interval=2)), (2, dict(train_cfg__val_begin=3))):
        work_dir = tmp_path / f'run{number}'
        assert toy.train(work_dir, config=config, train_cfg__max_epochs=number, val_cfg='None', val_dataloader='None',
                         val_evaluator='None', default_hooks__checkpoint__save_best='None') == 0  # fmt: skip
        assert toy.train(work_dir, '--resume', config=config, train_cfg__max_epochs=4, **changes) == 0
    assert done(asked) == [6, 12, 9, 12]
