"""Runs that are killed, terminated, interrupted or out of space go on from their last whole checkpoint."""

import os
import resource
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest
import torch
import toy_runs as toy
from fault_parts import limit_files

from qsdt_mm.fileio import atomic as storage

CHANGES = dict(randomness__seed=3, train_dataloader__num_workers=0, train_cfg__val_interval=1)
HOOK = "custom_imports = dict(imports=['qsdt_mm.engine.hooks', 'toy_parts', 'fault_parts'])\n"


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
    """A run that nothing disturbed."""
    work_dir = tmp_path_factory.mktemp('straight') / 'run'
    assert toy.train(work_dir, **CHANGES) == 0
    return work_dir


@pytest.fixture
def handlers(monkeypatch):
    """The signals as a shell's foreground has them; what a fault has changed is put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    vars(storage).pop('open', None)


def with_hook(path, **hook):
    return toy.variant(path, f'{HOOK}custom_hooks = [dict(type="EMAHook", momentum=0.1), dict({fields(hook)})]')


def fields(settings):
    return ', '.join(f'{key}={value!r}' for key, value in settings.items())


def assert_whole(work_dir, names):
    """These checkpoints are there, each of them loads, and nothing half-written is left."""
    assert sorted(path.name for path in work_dir.iterdir() if path.is_file() and path.suffix != '.py') == sorted(
        [*names, *(['last_checkpoint'] if names else [])]
    )
    for name in names:
        assert toy.state(work_dir / name)['meta']['epoch'] == int(name[6])


def goes_on(work_dir, straight, capsys, after):
    """``--resume auto`` takes up that checkpoint and ends as the run that nothing disturbed."""
    capsys.readouterr()
    vars(storage).pop('open', None)  # the fault of a hook
    assert toy.train(work_dir, '--resume', 'auto', **CHANGES) == 0
    assert f'resuming from {work_dir / after}' in capsys.readouterr().err
    assert toy.training_differences(straight / 'epoch_4.pth', work_dir / 'epoch_4.pth') == []
    assert_whole(work_dir, [f'epoch_{i}.pth' for i in (1, 2, 3, 4)])


def test_killed_while_a_checkpoint_is_written(tmp_path, straight, capsys):
    work_dir, mark = tmp_path / 'run', tmp_path / 'mark'
    config = with_hook(tmp_path / 'c.py', type='HalfwayHook', name='epoch_3.pth', mark=str(mark))
    process = toy.copied_train(work_dir, config=config, **CHANGES)
    try:
        limit = time.monotonic() + 90
        while not mark.exists():
            assert process.poll() is None and time.monotonic() < limit, process.communicate()
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    half = [path for path in work_dir.iterdir() if path.name.startswith('.epoch_3.pth')]
    assert len(half) == 1 and 0 < half[0].stat().st_size < (work_dir / 'epoch_2.pth').stat().st_size
    assert (work_dir / 'epoch_2.pth').exists() and not (work_dir / 'epoch_3.pth').exists()
    goes_on(work_dir, straight, capsys, 'epoch_2.pth')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('moment', ['training', 'validation', 'checkpoint'])
def test_signals(tmp_path, straight, capsys, handlers, number, moment):
    hook = dict(
        training=dict(type='SignalHook', at=15, number=int(number)),
        validation=dict(type='SignalHook', at=12, number=int(number), validation=True),
        checkpoint=dict(type='HalfwayHook', name='epoch_3.pth', number=int(number)),
    )[moment]
    work_dir = tmp_path / 'run'
    config = with_hook(tmp_path / 'c.py', **hook)
    assert toy.train(work_dir, config=config, **CHANGES) == 128 + number
    error = capsys.readouterr().err
    assert error.splitlines()[-1] == 'train.py: ' + ('interrupted' if number == signal.SIGINT else 'terminated')
    assert 'Traceback' not in error
    assert_whole(work_dir, ['epoch_1.pth', 'epoch_2.pth'])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if moment == 'checkpoint':
        goes_on(work_dir, straight, capsys, 'epoch_2.pth')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_in_an_evaluation(tmp_path, straight, capsys, handlers, number):
    config = with_hook(tmp_path / 'c.py', type='TestSignalHook', number=int(number))
    out, figures = tmp_path / 'p.pkl', tmp_path / 'm.json'
    words = ['--out', out, '--json', figures]
    status = toy.evaluate(straight / 'epoch_4.pth', tmp_path / 'run', *words, config=config)
    assert status == 128 + number and 'Traceback' not in capsys.readouterr().err
    assert not out.exists() and not figures.exists()


@pytest.mark.slow
def test_sigterm_in_a_process_with_workers(tmp_path):
    """To the whole group, as a batch system sends it: the data loading workers end too."""
    work_dir = tmp_path / 'run'
    process = toy.start_train(work_dir, train_dataloader__dataset__delay=0.05, train_cfg__max_epochs=200)
    limit = time.monotonic() + 90
    while not (work_dir / 'epoch_1.pth').exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143 and error.splitlines()[-1] == 'train.py: terminated'
    assert 'Traceback' not in error
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        os.killpg(process.pid, 0)
    from qsdt_mm.fileio.checkpoint import find_resumable

    assert find_resumable(work_dir) is not None


def one_line(capsys, prog, *hints):
    error = capsys.readouterr().err
    lines = toy.our_lines(error, prog)
    assert len(lines) == 1, error
    for hint in hints:
        assert str(hint) in lines[0], lines[0]


@contextmanager
def small_files(size):
    """No file may grow beyond ``size`` bytes, or beyond what a hook says; undone at the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size is not None:
        limit_files(size)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_may_not_grow_while_saving(tmp_path, straight, capsys, handlers):
    work_dir = tmp_path / 'run'
    config = with_hook(tmp_path / 'c.py', type='SmallFilesHook', epoch=2, size=8192)
    with small_files(None):
        status = toy.train(work_dir, config=config, **CHANGES)
    assert status == 1
    one_line(capsys, 'train.py', work_dir / 'epoch_3.pth', 'File too large')
    assert_whole(work_dir, ['epoch_1.pth', 'epoch_2.pth'])
    goes_on(work_dir, straight, capsys, 'epoch_2.pth')


@contextmanager
def small_disk(path, size):
    """A file system of so many bytes; skips where this process may not mount one."""
    path.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(path)]
    if shutil.which('mount') is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip('this process may not mount a file system')
    try:
        yield path
    finally:
        subprocess.run(['umount', '-l', str(path)], check=True)


def test_full_disk_while_saving(tmp_path, straight, capsys, handlers):
    size = (straight / 'epoch_4.pth').stat().st_size
    with small_disk(tmp_path / 'disk', 3 * size + 40960) as disk:
        work_dir = disk / 'run'
        (disk / 'ballast').write_bytes(bytes(size // 2))
        assert toy.train(work_dir, **CHANGES) == 1
        one_line(capsys, 'train.py', 'No space left on device')
        names = sorted(path.name for path in work_dir.glob('*.pth'))
        assert names and 'epoch_4.pth' not in names
        assert_whole(work_dir, names)
        (disk / 'ballast').unlink()
        moved = tmp_path / 'moved'
        shutil.copytree(work_dir, moved)
    goes_on(moved, straight, capsys, names[-1])


@pytest.mark.parametrize('option', ['--out', '--json'])
def test_a_full_disk_at_the_end_of_an_evaluation(tmp_path, straight, capsys, handlers, option):
    target = tmp_path / ('p.pkl' if option == '--out' else 'm.json')
    target.write_text('old')
    config = with_hook(tmp_path / 'c.py', type='SmallFilesHook', epoch=0, size=128)
    with small_files(None):
        status = toy.evaluate(straight / 'epoch_4.pth', tmp_path / 'run', option, target, config=config)
    assert status == 1
    one_line(capsys, 'test.py', 'File too large', target)
    assert target.read_text() == 'old' and sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == sorted(
        ['c.py', target.name]
    )


@pytest.mark.parametrize('suffix', ['py', 'yaml', 'json'])
def test_a_full_disk_while_a_configuration_is_saved(tmp_path, capsys, handlers, monkeypatch, suffix):
    from qsdt_mm import cli

    target = tmp_path / f'saved.{suffix}'
    target.write_text('old')
    load = cli.load_config
    monkeypatch.setattr(cli, 'load_config', lambda *args: (load(*args), limit_files(64))[0])
    with small_files(None):
        assert toy.tool('misc/print_config').main([str(toy.CONFIG), '--save-path', str(target)]) == 2
    one_line(capsys, 'print_config.py', 'File too large', target)
    assert target.read_text() == 'old' and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_while_a_tensor_is_saved(tmp_path):
    """torch's own writer says what the disk said."""
    path = tmp_path / 'x.pth'
    with (
        small_files(1 << 16),
        pytest.raises(OSError, match=r'File too large.*x\.pth'),
        storage.atomic_open(path) as file,
    ):
        torch.save(dict(a=torch.zeros(1 << 16)), file)
    assert not list(tmp_path.iterdir())
