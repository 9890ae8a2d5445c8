"""The errors that the tools report in one line, and those that stay tracebacks."""

import errno
import traceback
from collections.abc import Collection
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
PASSING_ON = (PACKAGE / 'registry.py', PACKAGE / 'engine' / 'rehearsal.py')
# What a disk says that takes no more: it is full, a quota or limit is reached, it became read-only, it failed.
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class InputError(ValueError):
    """What the user gave (a file, a key, an argument) cannot be used; the tools exit with status 2."""


class CheckpointError(InputError):
    """A checkpoint is missing, damaged, asks to run code, or does not fit the model."""


class NonFiniteError(FloatingPointError):
    """Training met a value that is not finite; the tools exit with status 1 and save nothing more."""


class NonFiniteLossError(NonFiniteError):
    """A loss is NaN or infinite."""


class NonFiniteWeightsError(NonFiniteError):
    """A model that was about to be saved holds a parameter that is not finite."""


def is_own_fault(error: BaseException, files: Collection[str] = ()) -> bool:
    """Whether an error is a fault of this package rather than of what it was given.

    It is if the innermost frame is in the package and the error is no ``ValueError`` (what checks of arguments raise),
    ``OSError``, missing module or missing memory. What other libraries raise is put down to what they were given, and
    so is a call that a configuration describes (``registry.py`` and ``rehearsal.py`` pass it on, as constructors do
    with arguments that are for their base class).

    Args:
        error: the error, with its traceback.
        files: files that count as the package's besides its own.
    """
    if isinstance(error, (ValueError, OSError, NonFiniteError, ImportError, MemoryError)):
        return False
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    if not frames:
        return False
    if frames[0].name == '__init__' and isinstance(error, TypeError) and 'unexpected keyword argument' in str(error):
        return False
    path = Path(frames[0].filename)
    return frames[0].filename in files or (PACKAGE in path.parents and path not in PASSING_ON)


def disk_fault(error: BaseException | None) -> OSError | None:
    """What the disk said when it took no more, also where a library has put an error of its own in its place."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            return error
        error = error.__cause__ or error.__context__
    return None
