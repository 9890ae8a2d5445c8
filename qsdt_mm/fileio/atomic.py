"""Files that are either whole or not there: written beside, flushed to disk, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mmengine.fileio import LocalBackend, register_backend

from qsdt_mm.errors import disk_fault

PathLike = str | Path
BESIDE = '.tmp'  # in the names of files that are being written


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a path beside ``path``, of the same suffix, whose file is renamed when the block ends without error.

    Args:
        path: Where the file is to appear; its directory is made when missing.

    Raises:
        OSError: The file cannot be written (what was there before is left alone).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    with suppress(OSError):  # a leftover may be a link to somebody else's
        beside.unlink()
    try:
        yield beside
        os.replace(beside, path)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        fault = disk_fault(error)
        if fault and fault.filename in (None, str(beside)):  # say which file was to be there
            raise OSError(fault.errno, fault.strerror, str(path)) from error
        raise
    with suppress(OSError):  # not every file system lets a directory be synchronised
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _beside(path: Path) -> Path:
    return path.with_name(f'.{path.name}{BESIDE}{path.suffix}')


@contextmanager
def atomic_open(path: PathLike, mode: str = 'wb', **kwargs) -> Iterator[IO]:
    """Open a file that appears under its name only when the block ends without an error.

    Args:
        path: Where the file is to appear; its directory is made when missing.
        mode: ``'w'`` or ``'wb'``.
        **kwargs: Passed to :func:`open`.

    Raises:
        OSError: The file cannot be written (what was there before is left alone).
    """
    with atomic_path(path) as beside, open(beside, mode, **kwargs) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def check_writable(path: PathLike) -> None:
    """Write a little where a file is to appear later, and remove it again.

    Args:
        path: A file that may or may not be there, whose folder may be yet to make.

    Raises:
        OSError: The disk takes nothing there, or it is not allowed.
    """
    folder = next(part for part in Path(os.path.abspath(path)).parents if part.exists())
    probe = folder / f'.{Path(path).name[:100]}{BESIDE}{os.getpid()}'
    try:
        with suppress(FileNotFoundError):  # a name that is too long is said here
            os.lstat(_beside(Path(path)))
        with open(probe, 'xb') as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())  # where a full disk or a quota may say so first
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            probe.unlink()


def remove_leftovers(directory: PathLike, pattern: str) -> None:
    """Remove what a process that was killed while writing ``pattern`` has left beside it."""
    for path in Path(directory).glob(f'.{pattern}{BESIDE}*'):
        with suppress(OSError):
            path.unlink()


@register_backend('atomic_local', force=True)
class AtomicLocalBackend(LocalBackend):
    """mmengine's local storage whose writes are atomic; a process killed while writing leaves no broken file.

    Use it where mmengine takes ``backend_args``: ``backend_args=dict(backend='atomic_local')``.

    >>> import tempfile
    >>> from mmengine import fileio
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fileio.put(b'whole', f'{folder}/file', backend_args=dict(backend='atomic_local'))
    ...     os.listdir(folder)
    ['file']
    """

    def put(self, obj: bytes, filepath: PathLike) -> None:
        """Write bytes to ``filepath``, or leave it untouched."""
        with atomic_open(filepath) as file:
            file.write(obj)

    def put_text(self, obj: str, filepath: PathLike, encoding: str = 'utf-8') -> None:
        """Write text to ``filepath``, or leave it untouched."""
        with atomic_open(filepath, 'w', encoding=encoding) as file:
            file.write(obj)
