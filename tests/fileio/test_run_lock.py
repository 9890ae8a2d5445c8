"""A directory that a process trains in: another is refused, and a process that was killed leaves it free."""

import errno
import json
import os
import signal
import socket
import threading

import pytest

from qsdt_mm.errors import InputError, InputWarning
from qsdt_mm.fileio import run_lock
from qsdt_mm.fileio.run_lock import LOCK, occupied


def take(*directories, program='train.py', began=True):
    return occupied(directories, program, lambda: began)


def taken(*directories):
    """What is said about a directory that is in use; None if it is not."""
    try:
        with take(*directories):
            return None
    except InputError as error:
        return str(error)


def child(work_dir, then):
    """A process that takes a directory, says so, and does something."""
    reader, writer = os.pipe()
    number = os.fork()
    if number:
        os.close(writer)
        assert os.read(reader, 1) == b'x'
        os.close(reader)
        return number
    try:
        with take(work_dir):
            os.write(writer, b'x')
            then()
    finally:
        os._exit(0)


def test_the_second_is_refused_with_the_process_of_the_first(tmp_path):
    with take(tmp_path / 'run'):
        said = taken(tmp_path / 'run')
        assert f'{tmp_path / "run"} is in use by train.py, process {os.getpid()} on {socket.gethostname()}, ' in said
        assert '\n' not in said and '--work-dir' in said
        (tmp_path / 'link').symlink_to(tmp_path / 'run')
        assert str(os.getpid()) in taken(tmp_path / 'link')  # by whatever way it is reached
        assert taken(tmp_path / 'other') is None
        assert str(os.getpid()) in taken(tmp_path / 'other', tmp_path / 'run')  # one of several
        assert taken(tmp_path / 'other') is None  # which that has let go
    assert taken(tmp_path / 'run') is None
    assert list((tmp_path / 'run').iterdir()) == []


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_was_killed_leaves_it_free(tmp_path, number):
    process = child(tmp_path / 'run', signal.pause)
    assert f'process {process} ' in taken(tmp_path / 'run')
    os.kill(process, number)
    os.waitpid(process, 0)
    assert (tmp_path / 'run' / LOCK).is_file()  # the file stays, and does not matter
    assert taken(tmp_path / 'run') is None


def test_workers_that_outlive_a_killed_run_do_not_hold_it(tmp_path):
    reader, writer = os.pipe()

    def fork_worker():
        worker = os.fork()
        if worker == 0:
            os.read(reader, 1)  # until the test is over
            os._exit(0)
        signal.pause()

    process = child(tmp_path / 'run', fork_worker)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert taken(tmp_path / 'run') is None
    os.write(writer, b'x')


def test_a_child_that_ends_leaves_it_held(tmp_path):
    with take(tmp_path / 'run'):
        worker = os.fork()
        if worker == 0:
            os._exit(0)
        os.waitpid(worker, 0)
        assert taken(tmp_path / 'run')


@pytest.mark.parametrize('make', [os.symlink, os.link])
def test_copies_by_links_are_directories_of_their_own(tmp_path, make):
    (tmp_path / 'copy').mkdir()
    with take(tmp_path / 'run'):
        make(tmp_path / 'run' / LOCK, tmp_path / 'copy' / LOCK)
        assert taken(tmp_path / 'copy') is None
        assert taken(tmp_path / 'run') and json.loads((tmp_path / 'run' / LOCK).read_text())['pid'] == os.getpid()


def test_directories_of_a_run_that_did_not_begin(tmp_path):
    with take(tmp_path / 'a/b/run', began=False):
        (tmp_path / 'a/b/run/20260101').mkdir()  # a log
    assert not (tmp_path / 'a').exists()
    with take(tmp_path / 'a/b/run', began=False):
        (tmp_path / 'a/b/run/20260101').mkdir()
        (tmp_path / 'a/b/run/notes.txt').touch()  # somebody else's
    assert [path.name for path in (tmp_path / 'a/b/run').iterdir()] == ['20260101', 'notes.txt']
    with take(tmp_path / 'a/b/run', began=False):  # it was there
        pass
    assert (tmp_path / 'a/b/run/notes.txt').exists()
    with take(tmp_path / 'c/run'):
        pass
    assert (tmp_path / 'c/run').is_dir()


def test_many_at_once_are_one_at_a_time(tmp_path):
    """Taking, removing the file and taking again never lets two in."""
    inside, most, done = [], [], []

    def work():
        for _ in range(60):
            try:
                with take(tmp_path / 'run', began=False):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    done.append(1)
            except InputError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done and max(most) == 1


@pytest.mark.parametrize('fault', [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing(tmp_path, monkeypatch, fault):
    def refuse(*args):
        raise OSError(fault, os.strerror(fault))

    for name in ('fsync', 'open'):
        with monkeypatch.context() as patch:
            patch.setattr(run_lock.os, name, refuse)
            said = taken(tmp_path / 'new' / 'run')
        assert said == f'work directory {tmp_path / "new/run"} cannot be written: {os.strerror(fault)}'
        assert not (tmp_path / 'new' / 'run').exists()
    (tmp_path / 'file').touch()
    assert 'cannot be written: ' in taken(tmp_path / 'file') and 'cannot be written: ' in taken(tmp_path / 'file/run')


def test_without_locks_the_record_decides(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(run_lock.fcntl, 'flock', refuse)
    with take(tmp_path):
        assert f'process {os.getpid()} ' in taken(tmp_path)
    process = child(tmp_path, lambda: os.kill(os.getpid(), signal.SIGKILL))
    os.waitpid(process, 0)
    assert (tmp_path / LOCK).is_file() and taken(tmp_path) is None
    (tmp_path / LOCK).write_text(json.dumps(dict(program='train.py', pid=1, host='elsewhere', since='today')))
    with pytest.warns(InputWarning, match='was in use by train.py, process 1 on elsewhere, since today'):
        assert taken(tmp_path) is None
    for text in ('', '[]', json.dumps(dict(pid='x', host=socket.gethostname())), '{'):
        (tmp_path / LOCK).write_text(text)
        assert taken(tmp_path) is None
