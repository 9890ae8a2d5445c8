"""A checkpoint that lacks what a run needs is refused, or completed as told; other settings are said or taken."""

import pytest
import torch
import toy_runs as toy
import toy_states as states

LINEAR = "param_scheduler = [dict(type='LinearLR', start_factor=0.01, end=6, by_epoch=False)]\n"
SAVING = "default_hooks = dict(checkpoint=dict(save_best='acc', rule='greater'))\n"


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('runs')


@pytest.fixture(scope='module')
def config(folder):
    """Two epochs of three iterations; the learning rate rises from a hundredth."""
    return states.config(folder / 'c.py', LINEAR + SAVING + 'train_cfg = dict(max_epochs=2)\n')


@pytest.fixture(scope='module')
def run(folder, config):
    """A run of two epochs."""
    assert toy.train(folder / 'run', config=config) == 0
    return folder / 'run'


def without(run, path, *parts):
    """A copy of the run's first checkpoint that lacks parts."""
    path.parent.mkdir(exist_ok=True)
    torch.save({key: value for key, value in toy.state(run / 'epoch_1.pth').items() if key not in parts}, path)
    return path


def rates(path):
    """The learning rates of all iterations so far."""
    return toy.state(path)['message_hub']['log_scalars']['train/lr'].data[0].tolist()


def refused(capsys, status, *hints):
    (line,) = toy.our_lines(capsys.readouterr().err)
    assert status == 2
    for hint in hints:
        assert str(hint) in line, line
    return line


KINDS = {
    'best': (None, 'optimizer, param_schedulers', '--new-optimizer --new-schedule'),
    'no optimizer': (['optimizer'], 'optimizer', '--new-optimizer'),
    'no schedule': (['param_schedulers'], 'param_schedulers', '--new-schedule'),
    'weights': (['optimizer', 'param_schedulers', 'meta', 'message_hub'], 'meta, message_hub, optimizer', ''),
}


@pytest.mark.parametrize('kind', KINDS)
def test_incomplete_checkpoints(tmp_path, run, config, capsys, kind):
    parts, lacking, options = KINDS[kind]
    path = next(run.glob('best_*')) if parts is None else without(run, tmp_path / 'x.pth', *parts)
    for words in (['--resume', path], ['--resume', path, '--new-schedule'][: 3 if kind == 'no optimizer' else 2]):
        status = toy.train(tmp_path / 'run', *words, config=config)
        line = refused(capsys, status, f'has no {lacking}', f'load_from={path}')
        assert options in line and ('--new' in line) == bool(options)
    status = toy.train(tmp_path / 'run', config=config, resume=True, load_from=path)
    refused(capsys, status, f'load_from={path}')
    assert not (tmp_path / 'run').exists()
    assert toy.train(tmp_path / 'start', config=config, load_from=path, train_cfg__max_epochs=1) == 0
    if not options:
        refused(capsys, toy.train(tmp_path / 'run', '--resume', path, '--new-optimizer', config=config), 'meta')
        return
    assert toy.train(tmp_path / 'run', '--resume', path, *options.split(), config=config, train_cfg__max_epochs=3) == 0
    done = toy.state(tmp_path / 'run/epoch_3.pth')
    expected = rates(run / 'epoch_2.pth')
    assert rates(tmp_path / 'run/epoch_3.pth')[:6] == pytest.approx(expected)  # neither a warm-up anew nor its end
    steps = {int(state['step']) for state in done['optimizer']['state'].values()}
    assert steps == {done['meta']['iter'] - (0 if kind == 'no schedule' else toy.state(path)['meta']['iter'])}


def test_auto_falls_back_to_the_last_complete_one(tmp_path, run, config, capsys):
    work_dir = tmp_path / 'run'
    toy.copy_start(run, work_dir, 'epoch_1.pth')
    path = without(run, work_dir / 'epoch_2.pth', 'optimizer')
    (work_dir / 'last_checkpoint').write_text(str(path))
    assert toy.train(work_dir, '--resume', 'auto', config=config) == 0
    said = capsys.readouterr().err
    assert f'skipped: checkpoint {path} cannot be resumed: it has no optimizer' in said
    assert f'resuming from {work_dir / "epoch_1.pth"}' in said
    assert toy.training_differences(run / 'epoch_2.pth', path) == []


def test_auto_does_not_start_anew_over_incomplete_ones(tmp_path, run, config, capsys):
    work_dir, best = tmp_path / 'run', next(run.glob('best_*'))
    toy.copy_start(run, work_dir, best.name)
    assert toy.train(work_dir, '--resume', config=config, train_cfg__max_epochs=1) == 0  # a best one is never taken
    assert f'warning: {work_dir / best.name} is of a run before, and may be replaced' in capsys.readouterr().err
    path = without(run, work_dir / 'epoch_1.pth', 'param_schedulers')
    before = path.read_bytes()
    refused(capsys, toy.train(work_dir, '--resume', config=config), 'it has no param_schedulers', '--new-schedule')
    assert path.read_bytes() == before
    assert toy.train(work_dir, '--resume', '--new-schedule', config=config) == 0
    assert toy.training_differences(run / 'epoch_2.pth', work_dir / 'epoch_2.pth') == []


def test_runs_that_save_less(tmp_path, config, capsys):
    changes = dict(train_cfg__max_epochs=1, default_hooks__checkpoint__save_optimizer=False)
    assert toy.train(tmp_path / 'run', config=config, **changes) == 0
    refused(
        capsys, toy.train(tmp_path / 'run', '--resume', config=config), 'it has no optimizer', 'neither can another'
    )
    assert toy.evaluate(next((tmp_path / 'run').glob('best_*')), tmp_path / 'test', config=config) == 0


def test_a_run_without_schedule_needs_none(tmp_path, config, capsys):
    changes = dict(param_scheduler='None')
    assert toy.train(tmp_path / 'run', config=config, train_cfg__max_epochs=1, **changes) == 0
    assert toy.train(tmp_path / 'run', '--resume', config=config, **changes) == 0
    assert 'warning' not in capsys.readouterr().err
    refused(capsys, toy.train(tmp_path / 'run', '--resume', config=config), 'it has no param_schedulers')


@pytest.mark.parametrize('words', [['--new-schedule'], ['--new-optimizer', '--overwrite']])
def test_options_need_a_checkpoint(tmp_path, capsys, words):
    refused(capsys, toy.train(tmp_path / 'run', *words), f'{words[0]} says how to go on', 'needs --resume')


OTHERS = {
    'another end': (LINEAR.replace('end=6', 'end=3'), 'end of LinearLR is 6, not 3'),
    'another kind': ("param_scheduler = [dict(type='ConstantLR', factor=0.5, end=9)]\n", 'LinearLR, not ConstantLR'),
    'none': ('param_scheduler = None\n', 'the schedule is LinearLR, not none'),
    'one more': (
        LINEAR.replace(')]', "), dict(type='StepLR', step_size=1, gamma=0.1)]"),
        'the schedule is LinearLR, not LinearLR, StepLR',
    ),
    'another learning rate': ('optim_wrapper = dict(optimizer=dict(lr=0.5))\n', 'lr is 0.01, not 0.5'),
    'another decay': (
        'optim_wrapper = dict(optimizer=dict(weight_decay=0.5, betas=(0.5, 0.9)))\n',
        'betas is (0.9, 0.999), not (0.5, 0.9); weight_decay is 0.05, not 0.5',
    ),
    'another batch': ('train_dataloader = dict(batch_size=6, num_workers=0, dataset=dict(count=12))\n', '4, not 6'),
}


@pytest.mark.parametrize('case', OTHERS)
def test_other_settings(tmp_path, run, config, capsys, case):
    """The checkpoint's go on, and a line says so; with the option the new ones, as if they had always been there."""
    text, hint = OTHERS[case]
    other = states.config(tmp_path / 'c.py', LINEAR + SAVING + 'train_cfg = dict(max_epochs=2)\n' + text)
    toy.copy_start(run, tmp_path / 'old', 'epoch_1.pth')
    assert toy.train(tmp_path / 'old', '--resume', config=other) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if 'of the checkpoint go on' in line)
    assert 'warning' in line and hint in line and '--new-schedule' in line
    toy.copy_start(run, tmp_path / 'new', 'epoch_1.pth')
    assert toy.train(tmp_path / 'new', '--resume', '--new-schedule', config=other) == 0
    assert 'of the checkpoint go on' not in capsys.readouterr().err
    assert toy.train(tmp_path / 'straight', config=other) == 0
    old, new, straight = (tmp_path / name / 'epoch_2.pth' for name in ('old', 'new', 'straight'))
    if case == 'another batch':
        assert [toy.state(path)['meta']['iter'] for path in (old, new)] == [5, 4]
        assert rates(new)[3:] == rates(straight)[2:] != rates(old)[3:]
        return
    assert toy.training_differences(old, run / 'epoch_2.pth') == []
    assert rates(new)[3:] == rates(straight)[3:]
    groups = [
        [
            {key: value for key, value in group.items() if key != 'params'}
            for group in toy.state(path)['optimizer']['param_groups']
        ]
        for path in (new, straight)
    ]
    assert groups[0] == groups[1]
    assert toy.differences(*(toy.state(path)['optimizer'] for path in (new, run / 'epoch_2.pth'))) != []
    schedules = [toy.state(path).get('param_schedulers') for path in (new, straight)]
    assert toy.differences(*schedules) == []


def test_another_kind_of_optimizer(tmp_path, run, config, capsys):
    other = states.config(
        tmp_path / 'c.py',
        LINEAR + SAVING + "optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.1, momentum=0.9))\n",
    )
    start = ['--resume', run / 'epoch_1.pth']
    status = toy.train(tmp_path / 'run', *start, config=other)
    refused(capsys, status, 'epoch_1.pth has another optimizer than', 'AdamW, not SGD', '--new-optimizer')
    unnamed = without(run, tmp_path / 'stock/epoch_1.pth', 'run_state')  # as mmengine's own tools save it
    refused(capsys, toy.train(tmp_path / 'run', '--resume', unnamed, config=other), 'it lacks', 'momentum')
    assert toy.train(tmp_path / 'run', *start, '--new-optimizer', '--new-schedule', config=other) == 0
    (group,) = toy.state(tmp_path / 'run/epoch_3.pth')['optimizer']['param_groups']
    assert group['momentum'] == 0.9 and 'betas' not in group


def test_checkpoints_of_mmengine(tmp_path, run, config, capsys):
    """They do not say of which classes their schedules are: a parameter is compared, another kind is refused."""
    path = without(run, tmp_path / 'stock/epoch_1.pth', 'run_state')
    assert toy.train(tmp_path / 'run', '--resume', path, config=config) == 0
    assert 'warning' not in capsys.readouterr().err
    assert toy.training_differences(run / 'epoch_2.pth', tmp_path / 'run/epoch_2.pth') == []
    for case, status in (('another end', 0), ('another kind', 2), ('one more', 2)):
        text, hint = OTHERS[case]
        other = states.config(tmp_path / 'c.py', LINEAR + SAVING + 'train_cfg = dict(max_epochs=2)\n' + text)
        assert toy.train(tmp_path / case, '--resume', path, config=other) == status
        said = capsys.readouterr().err
        assert (hint if status == 0 else 'does not say of which kind: --new-schedule') in said
