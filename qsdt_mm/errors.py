"""The errors that the tools report in one line, and those that stay tracebacks."""

from __future__ import annotations

import errno
import io
import logging
import os
import pickle
import re
import stat
import traceback
from collections.abc import Collection
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
# Files that only pass a call on, as a configuration describes it.
PASSING_ON = (PACKAGE / 'registry.py', PACKAGE / 'compat' / 'renamed.py', PACKAGE / 'cli' / 'rehearsal.py')
LONGEST_SHOWN = 400
# What a disk says that takes no more: it is full, a quota or limit is reached, it became read-only, it failed.
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class InputError(ValueError):
    """Unusable input (a file, a key, an argument); the tools exit with status 2.

    >>> require(False, 'depth', 0, 'an integer >= 1', InputError)
    Traceback (most recent call last):
        ...
    qsdt_mm.errors.InputError: depth=0 is not allowed: expected an integer >= 1
    """


class InputWarning(UserWarning):
    """Input that is used all the same; the tools say it in one line.

    >>> import warnings
    >>> warnings.warn('3 of 860 boxes are left out', InputWarning)
    """


class CheckpointError(InputError):
    """A checkpoint is missing, damaged, asks to run code, or does not fit the model.

    >>> from qsdt_mm.fileio.checkpoint import load_checkpoint_safely
    >>> load_checkpoint_safely('nowhere.pth')
    Traceback (most recent call last):
        ...
    qsdt_mm.errors.CheckpointError: checkpoint nowhere.pth does not exist
    """


class NonFiniteError(FloatingPointError):
    """Training met a value that is not finite; the tools exit with status 1 and save nothing more.

    >>> try:
    ...     raise NonFiniteLossError('loss is nan at iteration 3')
    ... except NonFiniteError as error:
    ...     one_line(error)
    'loss is nan at iteration 3'
    """


class NonFiniteLossError(NonFiniteError):
    """A loss is NaN or infinite.

    >>> one_line(NonFiniteLossError('loss is nan at iteration 3'))
    'loss is nan at iteration 3'
    """


class NonFiniteWeightsError(NonFiniteError):
    """A model that was about to be saved holds a parameter that is not finite.

    >>> one_line(NonFiniteWeightsError('head.fc.weight is not finite after iteration 3'))
    'head.fc.weight is not finite after iteration 3'
    """


def require(condition: bool, argument: str, given: Any, allowed: str, error: type[ValueError] = ValueError) -> None:
    """Raise ``ValueError`` in this package's one form unless ``condition`` holds.

    Args:
        condition: what must be true.
        argument: name of the argument, as the user wrote it.
        given: the value that was given.
        allowed: the values that are allowed, in words.
        error: a kind of ``ValueError`` to raise.

    Raises:
        ValueError: ``condition`` is false.
    """
    if not condition:
        shown = repr(given)
        shown = shown if len(shown) <= LONGEST_SHOWN else f'{shown[:LONGEST_SHOWN]}...'
        raise error(f'{argument}={shown} is not allowed: expected {allowed}')


def require_positive_int(argument: str, given: Any) -> None:
    """Raise ``ValueError`` unless ``given`` is an integer of 1 or more."""
    require(isinstance(given, int) and not isinstance(given, bool) and given >= 1, argument, given, 'an integer >= 1')


def require_positive(argument: str, given: Any) -> None:
    """Raise ``ValueError`` unless ``given`` is a finite number above 0."""
    require(isinstance(given, (int, float)) and 0 < given < float('inf'), argument, given, 'a number > 0')


def is_own_fault(error: BaseException, files: Collection[str] = ()) -> bool:
    """Return whether an error is a fault of this package rather than of what it was given.

    It is if the innermost frame is in the package and the error is no ``ValueError`` (what checks of arguments raise),
    ``OSError``, missing module, missing op of mmcv or missing memory. What other libraries raise is put down to what
    they were given, and so is a call that a configuration describes (``PASSING_ON`` files only hand it over, as
    constructors do with arguments that are for their base class).

    Args:
        error: the error, with its traceback.
        files: files that count as the package's besides its own.
    """
    if isinstance(error, (ValueError, OSError, NonFiniteError, ImportError, MemoryError)) or hasattr(error, 'mmcv_op'):
        return False
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    if not frames:
        return False
    if frames[0].name == '__init__' and isinstance(error, TypeError) and 'unexpected keyword argument' in str(error):
        return False
    path = Path(frames[0].filename)
    return frames[0].filename in files or (PACKAGE in path.parents and path not in PASSING_ON)


def disk_fault(error: BaseException | None) -> OSError | None:
    """Find the disk's error when it took no more, also where a library has put an error of its own in its place."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            return error
        error = error.__cause__ or error.__context__
    return None


def written_file(error: BaseException) -> str | None:
    """Name the file that was open for writing where an error arose, which the error of a full disk does not name."""
    for frame, _ in reversed([*traceback.walk_tb(error.__traceback__)]):
        for value in frame.f_locals.values():
            if isinstance(value, logging.FileHandler):
                return value.baseFilename
            name = getattr(value, 'name', None) if isinstance(value, io.IOBase) else None
            named = isinstance(name, (str, os.PathLike)) and not str(name).startswith('<')  # <stdout>
            if named and set('wax+') & set(str(getattr(value, 'mode', ''))):
                return str(name)
    return None


def temporary_fault(error: BaseException | None) -> str | None:
    """Say that there was no folder for temporary files, also if a library has put an error of its own there."""
    while error is not None:
        tried = re.search(r'No usable temporary directory found in (.+)', str(error))
        if isinstance(error, FileNotFoundError) and tried:
            folders = ', '.join(re.findall(r"'([^']*)'", tried.group(1)))
            return f'no temporary file can be written (in {folders}): set TMPDIR to a folder that takes some'
        error = error.__cause__ or error.__context__
    return None


def why_no_file(path: str | os.PathLike, folder: bool = False) -> str | None:
    """Say why a path is no file that can be read, 'does not exist' or what else is the case; None if it is one.

    Args:
        path: The path.
        folder: It is to be a folder.
    """
    try:
        mode = os.stat(path).st_mode
    except NotADirectoryError:
        at = next(part for part in Path(path).parents if part.exists() and not part.is_dir())
        return f'does not exist: {at} is a file'
    except FileNotFoundError:
        if os.path.islink(path):
            return f'is a link to {os.readlink(path)}, which does not exist'
        return 'does not exist'
    except (OSError, ValueError) as error:
        return f'cannot be reached: {getattr(error, "strerror", None) or error}'
    if folder and not stat.S_ISDIR(mode):
        return 'is a file, not a folder'
    if not folder and stat.S_ISDIR(mode):
        return 'is a folder, not a file'
    if not folder and not stat.S_ISREG(mode):
        return 'is not a file'
    if not os.access(path, os.R_OK | os.X_OK if folder else os.R_OK):
        return 'cannot be read: permission denied'
    return None


def refusal(error: BaseException) -> str | None:
    """Name the code that a file wanted to run, from the error that refused it; None if the reason was another."""
    wanted = re.search(r'GLOBAL (\S+)', str(error))
    if wanted:
        return (
            f'wants to run {wanted.group(1).rstrip(".,")}, which is not among the types a checkpoint may hold: refused'
        )
    call = re.search(r'Trying to call reduce for unrecognized function (.+)|Can only (?:create|build) .*', str(error))
    if call:
        what = ' '.join(call.group(0).split())[:120]
        return f'wants to run something that a checkpoint may not hold ({what}): refused'
    return None


def one_line(error: BaseException) -> str:
    """Put an error into one line."""
    if temporary_fault(error):
        return str(temporary_fault(error))
    file = error.filename if isinstance(error, OSError) else None
    if file is None and isinstance(error, OSError) and error.errno in DISK_FAULTS:
        file = written_file(error)
    if isinstance(error, OSError) and error.strerror and file:
        text = f'{file}: {error.strerror}'
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif isinstance(error, KeyError) and error.args:
        text = str(error.args[0])
    elif isinstance(error, pickle.UnpicklingError) and refusal(error):
        text = f'a file {refusal(error)}'
    else:
        text = str(error)
    if 'Original Traceback' in text:  # from a data loading worker: its last line says what was wrong
        text = text.strip().splitlines()[-1].partition(': ')[2]
    if text == 'need at least one array to concatenate':  # what mmengine says of a data set without samples
        return 'no sample was found'
    text = ' '.join(text.split()).partition(' More details can be found')[0]
    if len(text) > 600:
        text = text[:597] + '...'
    plain = isinstance(error, (InputError, NonFiniteError, OSError, pickle.UnpicklingError))
    name = type(error).__name__
    if plain and text:
        return text
    if text:
        return f'{name}: {text}'
    frames = traceback.extract_tb(error.__traceback__)  # an assertion without words: its line has to speak
    return f'{name} in {frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line}' if frames else name
