"""A run leaves everything outside of its own directories as it is, whatever a checkpoint or a link says."""

import os
import shutil

import pytest
import torch
import toy_runs as toy

from qsdt_mm.fileio.checkpoint import find_resumable
from qsdt_mm.fileio.own_files import cut_links, inside, place, remove_unbegun

QUICK = dict(train_cfg__val_interval=1, train_dataloader__num_workers=0, randomness__seed=1)
# What the metric says, one validation after the other: a resumed run does better than the one before.
SCORES = """
custom_imports = dict(imports=['qsdt_mm.engine.hooks', 'toy_parts'])
val_evaluator = dict(type='ToyScores', scores=%s)
default_hooks = dict(checkpoint=dict(type=%r, save_best=%r, rule='greater', max_keep_ckpts=2%s))
"""
ITERATIONS = """
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True))
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=12, val_interval=3)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=12, by_epoch=False)]
default_hooks['checkpoint'].update(by_epoch=False, interval=3)
log_processor = dict(by_epoch=False)
"""


def config(path, scores, kind='SafeCheckpointHook', save_best='acc', more='', rest=''):
    return toy.variant(path, SCORES % (scores, kind, save_best, more) + rest)


@pytest.fixture(scope='module', params=['one metric', 'two metrics', 'iterations'])
def setting(request):
    """How best checkpoints are chosen and counted."""
    return dict(
        save_best=['acc', 'acc2'] if request.param == 'two metrics' else 'acc',
        rest=ITERATIONS if request.param == 'iterations' else '',
    )


@pytest.fixture(scope='module')
def stopped(tmp_path_factory, setting):
    """A run that was stopped, and what it left, as a copy: its best checkpoint is that of its first validation."""
    folder = tmp_path_factory.mktemp('stopped')
    run, left = folder / 'a', folder / 'left'
    made = config(folder / 'a.py', [0.5, 0.1, 0.1, 0.1], **setting)
    assert toy.train(run, config=made, **QUICK, **({} if setting['rest'] else dict(train_cfg__max_epochs=3))) == 0
    assert list(run.glob('best_acc*.pth'))
    shutil.copytree(run, left)
    return run, left


@pytest.fixture
def first(stopped):
    """The directory of that run as it was left, in the place that its checkpoints name."""
    run, left = stopped
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(left, run)
    return run


def newest(run):
    return find_resumable(run)


def better(tmp_path, setting, **more):
    """A configuration whose run does better than the first at once, and goes on for as long."""
    rest = setting['rest'].replace('max_iters=12', 'max_iters=18') or 'train_cfg = dict(max_epochs=5)'
    return config(tmp_path / 'b.py', [0.9, 0.95], save_best=setting['save_best'], rest=rest, **more)


@pytest.mark.parametrize('kind', ['SafeCheckpointHook', 'CheckpointHook'])
@pytest.mark.parametrize('link', [False, True])
def test_a_run_that_goes_on_elsewhere_leaves_the_first_alone(tmp_path, first, setting, kind, link):
    before, start = toy.files(first), newest(first)
    if link:
        (tmp_path / 'link').symlink_to(first)
        start = tmp_path / 'link' / start.name
    made = better(tmp_path, setting, kind=kind)
    assert toy.train(tmp_path / 'b', '--resume', start, config=made, **QUICK) == 0
    assert toy.files(first) == before
    best = sorted(path.name for path in (tmp_path / 'b').glob('best_*.pth'))
    assert len(best) == len(list(first.glob('best_*.pth'))) and (tmp_path / 'b/last_checkpoint').is_file()
    hub = toy.state(newest(tmp_path / 'b'))['message_hub']['runtime_info']
    assert all(inside(hub[key], [tmp_path / 'b']) for key in hub if key.startswith('best_ckpt'))


def test_a_score_that_is_not_better_keeps_the_first_runs_best(tmp_path, first, setting):
    made = config(tmp_path / 'b.py', [0.4], save_best=setting['save_best'], rest=better_rest(setting))
    before = toy.files(first)
    assert toy.train(tmp_path / 'b', '--resume', newest(first), config=made, **QUICK) == 0
    assert toy.files(first) == before and not list((tmp_path / 'b').glob('best_*.pth'))


def better_rest(setting):
    return setting['rest'].replace('max_iters=12', 'max_iters=18') or 'train_cfg = dict(max_epochs=5)'


@pytest.mark.parametrize('kind', ['SafeCheckpointHook', 'CheckpointHook'])
@pytest.mark.parametrize('how', ['copied', 'moved'])
def test_a_work_directory_that_has_moved_replaces_its_own_best(tmp_path, first, setting, kind, how):
    old = {path.name for path in first.glob('best_*.pth')}
    (shutil.copytree if how == 'copied' else shutil.move)(first, tmp_path / 'c')
    before = toy.files(first)
    assert toy.train(tmp_path / 'c', '--resume', 'auto', config=better(tmp_path, setting, kind=kind), **QUICK) == 0
    assert toy.files(first) == before
    best = {path.name for path in (tmp_path / 'c').glob('best_*.pth')}
    assert len(best) == len(old) and not best & old
    kept = [path.name for path in (tmp_path / 'c').glob('*.pth') if path.name not in best]
    assert len(kept) == 2, kept  # max_keep_ckpts counts on


@pytest.mark.parametrize('kind', ['SafeCheckpointHook', 'CheckpointHook'])
@pytest.mark.parametrize('make', [os.symlink, os.link])
def test_a_work_directory_of_links(tmp_path, first, setting, kind, make):
    """As ``cp -rs`` and ``cp -rl`` make them; the run begins in the middle, so that it writes what was linked."""
    work_dir = tmp_path / 'c'
    work_dir.mkdir()
    (first / 'b.py').write_text('# the configuration that another run has noted')
    before = toy.files(first)
    for path in first.iterdir():
        if path.is_file():
            make(path, work_dir / path.name)
    start = sorted(path for path in work_dir.glob('*.pth') if not path.name.startswith('best'))[0]
    runner = 'runner_type = "Runner"\n' if kind == 'CheckpointHook' else ''
    made = better(tmp_path, setting, kind=kind)
    made.write_text(made.read_text() + runner)
    assert toy.train(work_dir, '--resume', start, config=made, **QUICK) == 0
    assert toy.files(first) == before
    assert not (work_dir / 'last_checkpoint').is_symlink() and 'ToyScores' in (work_dir / 'b.py').read_text()


def test_a_directory_of_checkpoints_elsewhere(tmp_path, capsys):
    """``out_dir`` of the checkpoint hook belongs to the run too: under the work directory's name."""
    store = tmp_path / 'store'
    made = config(tmp_path / 'a.py', [0.5, 0.1], more=f', out_dir={str(store)!r}')
    changes = dict(QUICK, train_cfg__max_epochs=2)
    assert toy.train(tmp_path / 'x' / 'run', config=made, **changes) == 0
    assert sorted(path.name for path in (store / 'run').glob('epoch_*')) == ['epoch_1.pth', 'epoch_2.pth']
    before = toy.files(store)
    capsys.readouterr()
    assert toy.train(tmp_path / 'y' / 'run', config=made, **changes) == 2  # another run of that name
    (line,) = toy.our_lines(capsys.readouterr().err)
    assert f'{store / "run"} already holds checkpoints' in line
    assert toy.files(store) == before and not (tmp_path / 'y/run').exists()
    made = config(tmp_path / 'a.py', [0.9, 0.95], more=f', out_dir={str(store)!r}')
    assert toy.train(tmp_path / 'x/run', '--resume', 'auto', config=made, **dict(QUICK, train_cfg__max_epochs=4)) == 0
    assert f'resuming from {store / "run/epoch_2.pth"}' in capsys.readouterr().err
    assert sorted(path.name for path in (store / 'run').glob('*')) == [
        'best_acc_epoch_4.pth',
        'epoch_3.pth',
        'epoch_4.pth',
    ]
    other = config(tmp_path / 'b.py', [0.99], more=f', out_dir={str(tmp_path / "other")!r}')
    before = toy.files(store)
    changes = dict(QUICK, train_cfg__max_epochs=5)
    assert toy.train(tmp_path / 'z', '--resume', store / 'run/epoch_4.pth', config=other, **changes) == 0
    assert toy.files(store) == before and (tmp_path / 'other/z/best_acc_epoch_5.pth').is_file()


def test_resume_auto_stays_in_the_work_directory(tmp_path, first, setting, capsys):
    """``last_checkpoint`` of a copy names the first run's file: the copy's own is taken, or none."""
    work_dir = tmp_path / 'c'
    shutil.copytree(first, work_dir)
    assert find_resumable(work_dir) == work_dir / newest(first).name
    for path in work_dir.glob('*.pth'):
        path.unlink()
    with pytest.warns(UserWarning, match=f'skipped: checkpoint {newest(first)} is not in {work_dir}'):
        assert find_resumable(work_dir) is None


def test_another_runs_checkpoint_does_not_mix_with_those_that_are_there(tmp_path, first, setting, capsys):
    work_dir = tmp_path / 'c'
    work_dir.mkdir()
    for name in ('epoch_1.pth', 'best_acc_epoch_9.pth'):
        shutil.copy(newest(first), work_dir / name)
        before = toy.files(tmp_path) | toy.files(first)
        made = better(tmp_path, setting)
        before[str(made)] = made.read_bytes()
        capsys.readouterr()
        assert toy.train(work_dir, '--resume', newest(first), config=made, **QUICK) == 2
        assert toy.train(work_dir, config=made, **QUICK) == 2
        for line in toy.our_lines(capsys.readouterr().err):
            assert f'{work_dir} already holds checkpoints ({name})' in line
        assert toy.files(tmp_path) | toy.files(first) == before
        (work_dir / name).unlink()


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('best_ckpt', '{victim}'),
        ('best_ckpt', '{work_dir}/../victim/best_x.pth'),
        ('best_ckpt', '{work_dir}/notes.txt'),
        ('best_ckpt', 7),
        ('keep_ckpt_ids', ['../victim/best_x', '../notes', 2]),
    ],
)
def test_what_a_checkpoint_names_is_not_removed(tmp_path, key, value):
    """A file from a stranger, or edited: the run's own directory is where it lies."""
    work_dir, victim = tmp_path / 'run', tmp_path / 'victim' / 'best_x.pth'
    made = config(tmp_path / 'a.py', [0.5], more=", filename_tmpl='{}.pth'")
    assert toy.train(work_dir, config=made, **QUICK, train_cfg__max_epochs=1) == 0
    victim.parent.mkdir()
    for path in (victim, work_dir / 'notes.txt', tmp_path / 'notes.pth'):
        path.write_text('mine')
    checkpoint = toy.state(work_dir / '1.pth')
    fill = dict(victim=victim, work_dir=work_dir)
    checkpoint['message_hub']['runtime_info'][key] = value.format(**fill) if isinstance(value, str) else value
    torch.save(checkpoint, work_dir / '1.pth')
    made = config(tmp_path / 'a.py', [0.9], more=", filename_tmpl='{}.pth'")
    assert toy.train(work_dir, '--resume', 'auto', config=made, **QUICK, train_cfg__max_epochs=4) == 0
    for path in (victim, work_dir / 'notes.txt', tmp_path / 'notes.pth'):
        assert path.read_text() == 'mine'


def test_published_weights_go_to_the_own_directory(tmp_path):
    keys = ", published_keys=['meta', 'state_dict']"
    two = dict(save_best=['acc', 'acc2'], more=keys)
    made = config(tmp_path / 'a.py', [0.5], **two)
    assert toy.train(tmp_path / 'a', config=made, **QUICK, train_cfg__max_epochs=1) == 0
    before = toy.files(tmp_path / 'a')
    made = config(tmp_path / 'b.py', [0.1], **two)  # nothing better: no best checkpoint to publish
    changes = dict(QUICK, train_cfg__max_epochs=2)
    assert toy.train(tmp_path / 'b', '--resume', tmp_path / 'a/epoch_1.pth', config=made, **changes) == 0
    assert toy.files(tmp_path / 'a') == before and len(list((tmp_path / 'b').glob('epoch_2-*.pth'))) == 1


def test_overwriting_does_not_remove_what_training_starts_from(tmp_path, capsys):
    made = config(tmp_path / 'a.py', [0.5])
    changes = dict(QUICK, train_cfg__max_epochs=1)
    assert toy.train(tmp_path / 'a', config=made, **changes) == 0
    before = toy.files(tmp_path / 'a')
    capsys.readouterr()
    for name in ('epoch_1.pth', 'best_acc_epoch_1.pth'):
        start = tmp_path / 'a' / name
        assert toy.train(tmp_path / 'a', '--overwrite', config=made, load_from=start, **changes) == 2
        (line,) = toy.our_lines(capsys.readouterr().err)
        assert f'--overwrite would remove load_from={start}' in line
    assert toy.files(tmp_path / 'a') == before
    for path in (tmp_path / 'a').glob('*.pth'):  # links to somebody else's go, not what they lead to
        shutil.move(path, tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    kept = {str(path): path.read_bytes() for path in tmp_path.glob('*.pth')}
    assert toy.train(tmp_path / 'a', '--overwrite', config=made, **changes) == 0
    assert kept and {str(path): path.read_bytes() for path in tmp_path.glob('*.pth')} == kept
    assert not any(path.is_symlink() for path in (tmp_path / 'a').iterdir())


def test_a_failed_start_removes_no_other_process_work(tmp_path):
    """Two runs were given the same new directory, and one of them cannot begin."""
    for made, stays in ((['log'], False), (['log', 'log2'], True), (['log', 'c.py'], True), (['epoch_1.pth'], True)):
        work_dir = tmp_path / '_'.join(made)
        work_dir.mkdir()
        for name in made:
            (work_dir / name).mkdir() if name.startswith('log') else (work_dir / name).touch()
        remove_unbegun(work_dir)
        assert work_dir.exists() == stays
    (tmp_path / 'real' / 'log').mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / 'real')
    remove_unbegun(tmp_path / 'link')
    remove_unbegun(tmp_path / 'absent')
    assert (tmp_path / 'real' / 'log').is_dir()


def test_places(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'b').symlink_to(tmp_path / 'a')
    (tmp_path / 'a' / 'x').touch()
    (tmp_path / 'c').mkdir()
    (tmp_path / 'c' / 'x').symlink_to(tmp_path / 'a' / 'x')
    assert place(tmp_path / 'b/x') == place(tmp_path / 'a/../a/x') != place(tmp_path / 'c/x')
    assert inside(tmp_path / 'b/x', [tmp_path / 'a']) and inside(tmp_path / 'a/x', [tmp_path / 'b'])
    assert inside(tmp_path / 'c/x', [tmp_path / 'c']) and not inside(tmp_path / 'c/../a/x', [tmp_path / 'c'])
    assert not inside(tmp_path / 'a/x', [tmp_path]) and not inside(tmp_path / 'a/y/x', [tmp_path / 'a'])
    assert inside('s3://bucket/run/best_x.pth', ['s3://bucket/run/']) and not inside('s3://b/x', ['s3://b/run'])
    cut_links(tmp_path / 'b')  # a directory stays what it is
    assert (tmp_path / 'b').is_symlink()
    (tmp_path / 'c' / 'y').symlink_to(tmp_path / 'nowhere')
    cut_links(tmp_path / 'c' / 'y')
    (tmp_path / 'c' / 'y').touch()
    assert not (tmp_path / 'nowhere').exists()
