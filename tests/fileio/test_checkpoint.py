"""Checkpoints are whole, load without running anything, and the newest whole one is found."""

import os
import pickle
import shutil

import pytest
import torch
import toy_runs as toy

from qsdt_mm.errors import CheckpointError
from qsdt_mm.fileio import safe_load as loading
from qsdt_mm.fileio.atomic import AtomicLocalBackend, atomic_open
from qsdt_mm.fileio.checkpoint import (
    find_resumable,
    force_safe_loading,
    load_checkpoint_safely,
    load_weights,
    model_weights,
)

pytestmark = pytest.mark.usefixtures('as_in_use')


class Getter:
    """Reaches for an attribute when unpickled."""

    def __reduce__(self):
        return getattr, (torch.Size, 'numel')


class Settings:
    """A class of somebody's own."""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run of three epochs."""
    return toy.finished(tmp_path_factory, epochs=3)


@pytest.fixture(params=['torch', 'own'])
def loader(request, monkeypatch):
    """Both ways of loading: torch's, and ours for versions without it."""
    if request.param == 'torch' and not loading.has_safe_globals():
        pytest.skip('torch 2.6 or later: this one cannot be told what a file may hold')
    monkeypatch.setattr(loading, 'has_safe_globals', lambda: request.param == 'torch')


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_training_checkpoint_loads(run, loader):
    checkpoint = load_checkpoint_safely(run / 'epoch_3.pth')
    assert checkpoint['message_hub']['log_scalars']['train/loss'].mean() > 0
    plain = torch.load(run / 'epoch_3.pth', map_location='cpu', weights_only=False)  # as ours does
    for part in ('state_dict', 'optimizer'):
        assert toy.differences(checkpoint[part], plain[part]) == []


def test_code_in_a_checkpoint_does_not_run(tmp_path, loader):
    mark, path = tmp_path / 'mark', tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, meta=toy.Evil(mark)), path)
    with pytest.raises(CheckpointError, match=r'wants to run posix\.mkdir') as caught:
        load_checkpoint_safely(path)
    assert '\n' not in str(caught.value) and not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # the file does run code where it is let


def test_getattr_reaches_history_buffers_only(tmp_path, loader):
    path = tmp_path / 'getter.pth'
    torch.save(dict(state_dict={}, meta=Getter()), path)
    with pytest.raises(CheckpointError, match=r'wants to run builtins\.getattr'):
        load_checkpoint_safely(path)


def test_programs_are_refused(tmp_path, loader):
    path = tmp_path / 'script.pth'
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with pytest.raises(CheckpointError, match=r'script\.pth'):
        load_checkpoint_safely(path)


def test_nobody_else_loads_more_than_data(tmp_path, run, loader):
    """Within a tool, mmengine's own calls to torch.load are restricted, and find what a training leaves."""
    mark, path = tmp_path / 'mark', tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, meta=toy.Evil(mark)), path)
    before = torch.load
    with force_safe_loading():
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path)
        if torch.load is not before:  # else mmengine says itself what the file may hold
            held = torch.load(run / 'epoch_3.pth', map_location='cpu')
            assert held['message_hub']['log_scalars']['train/loss'].mean() > 0
    assert torch.load is before and not mark.exists()


def test_extra_classes_must_be_named(tmp_path, monkeypatch):
    import argparse

    path = tmp_path / 'args.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(2)), args=argparse.Namespace(lr=1)), path)
    with pytest.raises(CheckpointError, match=r'argparse\.Namespace'):
        load_checkpoint_safely(path)
    for modern in {loading.has_safe_globals(), False}:
        monkeypatch.setattr(loading, 'has_safe_globals', lambda modern=modern: modern)
        assert load_checkpoint_safely(path, extra_allowed=[argparse.Namespace])['args'].lr == 1
    with pytest.raises(CheckpointError):  # the permission was for that call
        load_checkpoint_safely(path)


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', pickle.dumps(dict(a=1))[:-3], None])
def test_damaged_files(tmp_path, run, loader, content):
    path = tmp_path / 'x.pth'
    if content is None:
        shutil.copy(run / 'epoch_1.pth', path)
        truncate(path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match='truncated or damaged') as caught:
        load_checkpoint_safely(path)
    assert '\n' not in str(caught.value) and str(path) in str(caught.value)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(CheckpointError, match='does not exist'):
        load_checkpoint_safely(tmp_path / 'none.pth')
    with pytest.raises(CheckpointError, match='is a folder, not a file'):
        load_checkpoint_safely(tmp_path)


def test_newest_whole_checkpoint_is_found(run, tmp_path):
    work_dir = tmp_path / 'moved'
    shutil.copytree(run, work_dir)  # last_checkpoint still names the old place
    shutil.rmtree(work_dir.parent / 'nowhere', ignore_errors=True)
    (work_dir / 'last_checkpoint').write_text('/nowhere/epoch_3.pth')
    assert find_resumable(work_dir) == work_dir / 'epoch_3.pth'
    truncate(work_dir / 'epoch_3.pth')
    with pytest.warns(UserWarning, match=r'epoch_3\.pth is truncated'):
        assert find_resumable(work_dir) == work_dir / 'epoch_2.pth'
    (work_dir / 'last_checkpoint').write_text('')  # killed while it was written
    torch.save(dict(state_dict=dict(a=torch.ones(1))), work_dir / 'epoch_2.pth')  # weights alone are not enough
    with pytest.warns(UserWarning, match='skipped'):
        assert find_resumable(work_dir) == work_dir / 'epoch_1.pth'
    (work_dir / 'epoch_1.pth').unlink()
    with pytest.warns(UserWarning, match='skipped'):
        assert find_resumable(work_dir) is None
    assert find_resumable(tmp_path / 'absent') is None


def test_epoch_10_is_newer_than_epoch_9(run, tmp_path):
    for number in (10, 9):
        shutil.copy(run / 'epoch_1.pth', tmp_path / f'epoch_{number}.pth')
    assert find_resumable(tmp_path) == tmp_path / 'epoch_10.pth'


@pytest.mark.parametrize('fault', [OSError('disk full'), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch, fault):
    path = tmp_path / 'new' / 'file.pth'
    backend = AtomicLocalBackend()
    backend.put(b'old', path)

    def fail(descriptor):
        raise fault

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(type(fault)):
        backend.put(b'new', path)
    with pytest.raises(type(fault)):
        backend.put_text('new', path)
    assert path.read_bytes() == b'old' and os.listdir(path.parent) == ['file.pth']


def test_nothing_appears_before_the_end(tmp_path):
    with atomic_open(tmp_path / 'a.json', 'w') as file:
        file.write('x')
        file.flush()
        assert not (tmp_path / 'a.json').exists()
    assert (tmp_path / 'a.json').read_text() == 'x'


def test_old_checkpoints_go_and_the_best_stays(tmp_path):
    changes = dict(
        default_hooks__checkpoint__max_keep_ckpts=2,
        default_hooks__checkpoint__save_best='acc',
        train_cfg__val_interval=1,
        train_dataloader__num_workers=0,
        train_cfg__max_epochs=5,
    )
    assert toy.train(tmp_path / 'run', **changes) == 0
    files = sorted(path.name for path in (tmp_path / 'run').glob('*.pth'))
    best = [name for name in files if name.startswith('best_acc')]
    assert len(best) == 1 and files == sorted([*best, 'epoch_4.pth', 'epoch_5.pth'])
    hub = toy.state(tmp_path / 'run' / 'epoch_5.pth')['message_hub']['runtime_info']
    assert os.path.basename(hub['best_ckpt']) == best[0]
    assert (tmp_path / 'run' / 'last_checkpoint').read_text() == str(tmp_path / 'run' / 'epoch_5.pth')


def test_weights_are_compared():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    weights = {f'module.{key}': value + 1 for key, value in model.state_dict().items()}
    assert not load_weights(model, model_weights(dict(state_dict=weights)))
    assert torch.equal(model[0].bias, weights['module.0.bias'])
    weights = model_weights(weights)
    weights.update({'1.weight': torch.zeros(4, 4), 'extra': torch.zeros(1)})
    del weights['0.bias']
    mismatch = load_weights(model, weights)
    assert mismatch == (['0.bias'], ['extra'], ['1.weight']) and '1 missing' in str(mismatch)
    with pytest.raises(CheckpointError, match='no weights'):
        model_weights(dict(state_dict={}))
