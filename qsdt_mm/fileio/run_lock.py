"""One training in a directory: a second is refused, and a run that was killed leaves nothing that would refuse it.

The lock is the operating system's (``flock``), which ends with the process in whatever way that ends; the file that
bears it says whose it is. Processes on other hosts see it on file systems that share locks, as NFS does.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from qsdt_mm.errors import InputError, InputWarning

from .own_files import remove_unbegun

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None

LOCK = '.running'
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # what file systems without locks say
_held: set[int] = set()


def _let_go_in_child() -> None:
    """Close the locks in a process that was forked, such as a data loading worker: it may outlive the run a little."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_let_go_in_child)


@contextlib.contextmanager
def occupied(directories: Sequence[Path], program: str, began: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Hold directories while the block runs, so that no other process can.

    Args:
        directories: They are made where they are missing.
        program: What holds them, for whoever is refused.
        began: Whether the run began; if it did not, directories that were made go again, unless others use them.

    Raises:
        InputError: Another process holds one, or it cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        for directory in directories:
            stack.enter_context(_hold(directory, program, began))
        yield


@contextlib.contextmanager
def _hold(directory: Path, program: str, began: Callable[[], bool]) -> Iterator[None]:
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    path = directory / LOCK
    descriptor, entered, own = None, False, os.getpid()
    try:
        try:
            descriptor = _lock(path)
            _held.add(descriptor)
            _write_record(descriptor, program)
        except OSError as error:
            raise InputError(f'work directory {directory} cannot be written: {error.strerror or error}') from error
        entered = True
        yield
    finally:
        stays = entered and began()
        if descriptor in _held:  # else it was not taken, or let go in a child
            if made and not stays:
                remove_unbegun(directory, LOCK)
            with contextlib.suppress(OSError):
                if _is_at(descriptor, path):
                    path.unlink()
            _held.discard(descriptor)
            os.close(descriptor)
        if not stays and os.getpid() == own:
            _remove_made(made)


def _remove_made(directories: Sequence[Path]) -> None:
    with contextlib.suppress(OSError):  # somebody else has put something there
        for directory in directories:
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()


def _lock(path: Path) -> int:
    """Return a descriptor of the file at ``path`` that holds its lock."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, 'O_NOFOLLOW', 0), 0o666)
        except OSError as error:
            if error.errno == errno.ENOENT:  # the directory has gone meanwhile
                continue
            if not path.is_symlink():
                raise
            path.unlink()  # of a directory that was copied as links: another run's lock
            continue
        try:
            if os.fstat(descriptor).st_nlink > 1:  # the same, by hard links
                path.unlink()
            else:
                _take(descriptor, path)
            if _is_at(descriptor, path):  # else the run before has just removed it
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _take(descriptor: int, path: Path) -> None:
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, 'no locks')
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _record(path)
        for _ in range(20):  # it may be about to say who it is
            if holder:
                break
            time.sleep(0.05)
            holder = _record(path)
        raise InputError(_refusal(path, holder)) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _ask_record(path)


def _ask_record(path: Path) -> None:
    """Judge by the record alone, on file systems without locks: a process of this host is there or not."""
    holder = _record(path)
    if not holder:
        return
    if holder.get('host') != socket.gethostname():
        warnings.warn(
            f'{path.parent} was in use by {_named(holder)}; this file system has no locks, so make sure that it is not',
            InputWarning,
            stacklevel=2,
        )
        return
    try:
        os.kill(holder.get('pid'), 0)
    except PermissionError:  # it is there, and somebody else's
        pass
    except (ProcessLookupError, TypeError, ValueError, OverflowError):
        return
    raise InputError(_refusal(path, holder))


def _write_record(descriptor: int, program: str) -> None:
    record = dict(program=program, pid=os.getpid(), host=socket.gethostname(), since=time.strftime('%F %T'))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(record).encode(), 0)
    os.fsync(descriptor)  # where a disk that is full says so


def _record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _named(holder: dict[str, Any]) -> str:
    if not holder:
        return 'another process'
    program, pid, host, since = (holder.get(key, '?') for key in ('program', 'pid', 'host', 'since'))
    return f'{program}, process {pid} on {host}, since {since}'


def _refusal(path: Path, holder: dict[str, Any]) -> str:
    return (
        f'work directory {path.parent} is in use by {_named(holder)}: wait for it to end, or choose another --work-dir'
    )
