"""tools/train.py: bad input is one line and status 2; nothing in a checkpoint runs."""

import os
import shutil
import signal
import sys
import time

import pytest
import torch
import toy_runs as toy
from copies import Copy

PAYLOAD = "__import__('os').mkdir({!r})"


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run of two epochs."""
    return toy.finished(tmp_path_factory, epochs=2)


def listing(path):
    return sorted((str(p.relative_to(path)), p.read_bytes()) for p in path.rglob('*') if p.is_file())


def refused(capsys, status, *hints):
    """One line of ours, status 2."""
    error = capsys.readouterr().err
    lines = toy.our_lines(error)
    assert status == 2 and len(lines) == 1, error
    for hint in hints:
        assert str(hint) in lines[0], lines[0]


def test_missing_config(tmp_path, capsys):
    refused(
        capsys,
        toy.train(tmp_path / 'run', config=tmp_path / 'none.py'),
        tmp_path / 'none.py',
        'does not exist',
    )
    assert not (tmp_path / 'run').exists()


def test_missing_config_in_a_process_of_its_own(tmp_path):
    process = toy.start([sys.executable, toy.ROOT / 'tools/train.py', 'none.py'])
    out, error = process.communicate(timeout=60)
    assert process.returncode == 2 and out == ''
    assert error == 'train.py: error: config none.py does not exist\n'


@pytest.mark.parametrize(
    'words',
    [
        [],
        ['a.py', '--launcher', 'horse'],
        ['a.py', '--resume', 'auto', '--overwrite'],
        ['a.py', '--nonsense'],
    ],
)
def test_usage_errors(capsys, words):
    with pytest.raises(SystemExit) as caught:
        toy.tool('train').main(words)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith('train.py: error: ') and error.count('\n') == 1


def test_unknown_option(tmp_path, capsys):
    refused(capsys, toy.train(tmp_path / 'run', model__widht=3), 'model.widht', 'model.width')
    assert not (tmp_path / 'run').exists()


def test_empty_data(tmp_path, capsys):
    refused(
        capsys,
        toy.train(tmp_path / 'run', train_dataloader__dataset__count=0, train_dataloader__sampler__shuffle=False),
        'training data set is empty',
        'ToyData',
    )
    assert not (tmp_path / 'run').exists()
    refused(capsys, toy.train(tmp_path / 'run', val_dataloader__dataset__count=0), 'validation data set is empty')
    refused(
        capsys,
        toy.train(tmp_path / 'run', train_dataloader__dataset__count=3, train_dataloader__drop_last=True),
        'gives no batch',
    )


def test_empty_folder_of_images(tmp_path, capsys):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'images' / 'cat').mkdir(parents=True)
    config = toy.variant(
        tmp_path / 'folder.py',
        f"""
default_scope = 'mmpretrain'
train_dataloader = dict(num_workers=0, dataset=dict(
    _delete_=True, type='CustomDataset', data_root={str(tmp_path)!r}, data_prefix='images', pipeline=[]))""",
    )
    refused(capsys, toy.train(tmp_path / 'run', config=config), tmp_path / 'images')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('changes', 'hint'),
    [
        (dict(model__type='NoSuchModel'), 'its model: KeyError: NoSuchModel'),
        (dict(optim_wrapper__optimizer__type='NoSuchOptimizer'), 'NoSuchOptimizer'),
        (dict(optim_wrapper__optimizer__lr='fast'), 'fast'),
        (dict(train_dataloader__dataset__type='NoSuchData'), 'the training data: KeyError: NoSuchData'),
        (dict(load_from='/nowhere/x.pth'), '/nowhere/x.pth does not exist'),
        (dict(train_cfg='None'), 'train_cfg'),
    ],
)
def test_what_cannot_be_built(tmp_path, capsys, changes, hint):
    refused(capsys, toy.train(tmp_path / 'run', **changes), hint)
    assert not (tmp_path / 'run').exists()


def test_traceback_on_request(tmp_path, capsys, monkeypatch):
    assert toy.train(tmp_path / 'run', '--traceback', model__type='NoSuchModel') == 2
    assert 'Traceback' in capsys.readouterr().err
    monkeypatch.setenv('QSDT_TRACEBACK', '1')
    assert toy.train(tmp_path / 'run', model__type='NoSuchModel') == 2
    assert 'Traceback' in capsys.readouterr().err


def test_errors_after_the_start_keep_their_traceback(tmp_path, capsys):
    assert toy.train(tmp_path / 'run', model__fails=True) == 1
    error = capsys.readouterr().err
    assert 'Traceback' in error and 'train.py: error' not in error
    assert (tmp_path / 'run').is_dir()


def test_truncated_resume_file(tmp_path, run, capsys):
    work_dir = tmp_path / 'run'
    shutil.copytree(run, work_dir)
    path = work_dir / 'epoch_2.pth'
    path.write_bytes(path.read_bytes()[:3000])
    before = listing(work_dir)
    refused(capsys, toy.train(work_dir, '--resume', path), path, 'truncated')
    assert listing(work_dir) == before


def test_truncated_newest_checkpoint_is_skipped(tmp_path, run, capsys):
    work_dir = tmp_path / 'run'
    shutil.copytree(run, work_dir)
    path = work_dir / 'epoch_2.pth'
    path.write_bytes(path.read_bytes()[:3000])
    (work_dir / 'last_checkpoint').write_text(str(path))
    changes = dict(train_cfg__max_epochs=2, train_dataloader__num_workers=0)
    assert toy.train(work_dir, '--resume', 'auto', **changes) == 0
    error = capsys.readouterr().err
    assert 'epoch_2.pth is truncated' in error and f'resuming from {work_dir / "epoch_1.pth"}' in error
    assert toy.training_differences(run / 'epoch_2.pth', path) == []


@pytest.mark.parametrize('how', ['weights only', 'another model', 'missing'])
def test_unfit_resume_files(tmp_path, run, capsys, how):
    path, changes = tmp_path / 'x.pth', {}
    if how == 'weights only':
        torch.save(dict(state_dict=toy.state(run / 'epoch_1.pth')['state_dict']), path)
        hint = 'load_from='
    elif how == 'another model':
        shutil.copy(run / 'epoch_1.pth', path)
        changes, hint = dict(model__width=5), 'of another shape (stem.0.weight'
    else:
        hint = 'does not exist'
    refused(capsys, toy.train(tmp_path / 'run', '--resume', path, **changes), path, hint)
    assert not (tmp_path / 'run').exists()


def test_resume_auto_without_checkpoints_starts_anew(tmp_path, capsys):
    assert toy.train(tmp_path / 'run', '--resume', 'auto', train_cfg__max_epochs=1) == 0
    assert 'nothing to resume' in capsys.readouterr().err
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()


def test_a_work_dir_in_use_is_not_touched(tmp_path, run, capsys):
    work_dir = tmp_path / 'run'
    shutil.copytree(run, work_dir)
    before = listing(work_dir)
    refused(capsys, toy.train(work_dir), '--resume auto', '--overwrite', '--work-dir')
    refused(capsys, toy.train(work_dir, '--overwrite', model__type='NoSuchModel'), 'NoSuchModel')
    refused(capsys, toy.train(work_dir, '--resume', optim_wrapper__optimizer__lr='fast'), 'fast')
    after = [entry for entry in listing(work_dir) if '/' not in entry[0]]  # logs of the attempts apart
    assert after == [entry for entry in before if '/' not in entry[0]]
    (work_dir / 'notes.txt').write_text('mine')
    assert toy.train(work_dir, '--overwrite', train_cfg__max_epochs=1) == 0
    assert sorted(path.name for path in work_dir.glob('*.pth')) == ['epoch_1.pth']
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'epoch_1.pth')
    assert (work_dir / 'notes.txt').exists()


def test_no_code_from_a_checkpoint_runs(tmp_path, run, capsys):
    mark, evil = tmp_path / 'mark', tmp_path / 'evil.pth'
    torch.save({**toy.state(run / 'epoch_1.pth'), 'extra': toy.Evil(mark)}, evil)
    work_dir = tmp_path / 'run'
    refused(capsys, toy.train(work_dir, '--resume', evil), evil, 'wants to run posix.mkdir')
    refused(capsys, toy.train(work_dir, load_from=evil), evil, 'wants to run posix.mkdir')
    refused(capsys, toy.train(work_dir, model__init_cfg__type='Pretrained', model__init_cfg__checkpoint=evil))
    assert not mark.exists() and not work_dir.exists()
    work_dir.mkdir()
    shutil.copy(evil, work_dir / 'epoch_1.pth')
    assert toy.train(work_dir, '--resume', 'auto', train_cfg__max_epochs=1) == 0  # skipped, like a broken one
    assert 'wants to run posix.mkdir' in capsys.readouterr().err and not mark.exists()
    torch.load(evil, weights_only=False)
    assert mark.exists()  # it would have worked


@pytest.mark.parametrize('runner_type', [None, 'Runner'])
def test_the_config_in_a_checkpoint_is_not_executed(tmp_path, run, runner_type):
    from mmengine.config import Config

    mark, path = tmp_path / 'mark', tmp_path / 'x.pth'
    checkpoint = toy.state(run / 'epoch_1.pth')
    checkpoint['meta']['config'] = f'a = {PAYLOAD.format(str(mark))}\n'
    torch.save(checkpoint, path)
    config = toy.variant(tmp_path / 'c.py', f'runner_type = {runner_type!r}') if runner_type else toy.CONFIG
    assert toy.train(tmp_path / 'run', '--resume', path, config=config, train_cfg__max_epochs=2) == 0
    assert (tmp_path / 'run' / 'epoch_2.pth').exists() and not mark.exists()
    Config.fromstring(checkpoint['meta']['config'], '.py')
    assert mark.exists()  # mmengine's Runner.resume would have done this


def test_options_of_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = toy.variant(tmp_path / 'mine.py', 'train_cfg = dict(max_epochs=1)')
    # no work directory given: named after the configuration; eight times the batch, so half the learning rate
    words = [
        str(config),
        '--no-validate',
        '--auto-scale-lr',
        '--amp',
        *toy.options(train_dataloader__num_workers=0),
    ]
    assert toy.tool('train').main(words) == 0
    from mmengine.config import Config

    cfg = Config.fromfile(tmp_path / 'work_dirs' / 'mine' / 'mine.py')
    assert cfg.val_cfg is None and cfg.auto_scale_lr.enable is True
    if not torch.cuda.is_available():
        assert cfg.optim_wrapper.type == 'CpuAmpOptimWrapper'
    groups = toy.state(tmp_path / 'work_dirs/mine/epoch_1.pth')['optimizer']['param_groups']
    assert groups[0]['initial_lr'] == pytest.approx(0.005)
    assert 'Epoch(val)' not in capsys.readouterr().out


def test_bf16_autocast_is_on_under_amp(tmp_path, monkeypatch):
    import toy_parts

    seen = []
    original = toy_parts.ToyModel.forward

    def forward(self, inputs, labels, mode='tensor'):
        if mode == 'loss':
            seen.append(torch.nn.functional.linear(torch.ones(1, 2), torch.ones(1, 2)).dtype)
        return original(self, inputs, labels, mode)

    if torch.cuda.is_available():
        pytest.skip('the CPU wrapper is not used here')
    monkeypatch.setattr(toy_parts.ToyModel, 'forward', forward)
    assert toy.train(tmp_path / 'a', '--amp', train_cfg__max_epochs=1) == 0
    assert set(seen) == {torch.bfloat16}
    seen.clear()
    assert toy.train(tmp_path / 'b', train_cfg__max_epochs=1) == 0
    assert set(seen) == {torch.float32}


def test_interrupt(tmp_path):
    process = toy.start_train(tmp_path / 'run', train_dataloader__dataset__delay=0.05, train_cfg__max_epochs=200)
    limit = time.monotonic() + 60
    while not (tmp_path / 'run' / 'epoch_1.pth').exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and error.splitlines()[-1] == 'train.py: interrupted'
    assert 'Traceback' not in error


class Loader:
    """Is interrupted while it goes, when Python drops whatever is raised."""

    def __del__(self):
        raise KeyboardInterrupt


def test_an_interrupt_that_a_destructor_swallows_comes_again():
    from qsdt_mm.cli import run_tool

    def body(session):
        session.begin()
        Loader()
        for _ in range(2000):
            time.sleep(0.01)

    process = Copy(lambda: run_tool('train.py', body))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error == 'train.py: interrupted\n'


def test_shell_scripts_say_how_they_are_used():
    for name in ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh'):
        process = toy.start(['bash', toy.ROOT / 'tools' / name])
        _, error = process.communicate(timeout=30)
        assert process.returncode == 2 and error.startswith('usage: ') and error.count('\n') == 1
        assert os.access(toy.ROOT / 'tools' / name, os.X_OK)
    process = toy.start(['bash', toy.ROOT / 'tools/dist_train.sh', 'c.py', 'many'])
    _, error = process.communicate(timeout=30)
    assert process.returncode == 2 and 'GPUS must be a positive number' in error


def test_slurm_script_starts_the_tool(tmp_path):
    fake = tmp_path / 'srun'
    fake.write_text('#!/bin/bash\nprintf "%s\\n" "$@" > "$SEEN"\n')
    fake.chmod(0o755)
    process = toy.start(
        ['bash', toy.ROOT / 'tools/slurm_train.sh', 'part', 'job', 'c.py', 'out', '--amp'],
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        SEEN=str(tmp_path / 'seen'),
        GPUS='4',
    )
    process.communicate(timeout=30)
    words = (tmp_path / 'seen').read_text().splitlines()
    assert process.returncode == 0 and '--ntasks=4' in words and '--gres=gpu:4' in words
    start = words.index(str(toy.ROOT / 'tools/train.py'))
    assert words[start + 1 :] == ['c.py', '--work-dir', 'out', '--launcher', 'slurm', '--amp']


@pytest.mark.parametrize('averaged', [True, False])
def test_weights_that_fit_in_part_are_one_line(tmp_path, run, capsys, averaged):
    """Another head, with averaged weights or without: the same line, and nothing of mmengine's."""
    changes = dict(model__classes=4, load_from=run / 'epoch_2.pth', train_cfg__max_epochs=1)
    if not averaged:
        changes['custom_hooks'] = 'None'
    assert toy.train(tmp_path / 'run', **changes) == 0
    out, error = capsys.readouterr()
    lines = [line for line in (out + error).splitlines() if 'not fit' in line or 'not match' in line or 'head.' in line]
    assert len(lines) == 1 and lines[0].endswith(
        f'{run / "epoch_2.pth"} does not fit the model: weights 2 of another shape (head.weight, head.bias)'
    )
    assert 'size mismatch' not in out + error and 'missing keys' not in out + error


def test_what_other_hooks_print_is_seen(tmp_path, run, capsys):
    config = toy.variant(
        tmp_path / 'c.py',
        "custom_imports = dict(imports=['qsdt_mm.engine.hooks', 'toy_parts'])\n"
        "custom_hooks = [dict(type='TalkingHook')]",
    )
    assert toy.train(tmp_path / 'run', config=config, load_from=run / 'epoch_2.pth', train_cfg__max_epochs=1) == 0
    assert 'a checkpoint with 9 weights' in capsys.readouterr().out
