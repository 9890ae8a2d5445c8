"""Ends of a run: the blame for an error, and signals that must not be lost."""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from qsdt_mm.compat.mmcv_ext import no_stand_in
from qsdt_mm.errors import PACKAGE, InputError, NonFiniteError

# Where a run hands over to what its configuration names: what then fails without this package was told so.
HANDED_OVER = {
    os.path.join('torch', 'utils', 'data', 'dataloader.py'): ('the data cannot be used', Exception),
    os.path.join('mmengine', 'evaluator', 'evaluator.py'): (
        'the metrics cannot be computed',
        (TypeError, ValueError, LookupError, AttributeError, AssertionError),
    ),
    os.path.join('mmengine', 'runner', 'runner.py'): (
        'a hook cannot do its work',
        (TypeError, ValueError, LookupError, AttributeError),
    ),
}


CONFIG: ContextVar[str] = ContextVar('CONFIG', default='')
"""The configuration that the tool at work has read."""


def missing_op(error: BaseException | None) -> str | None:
    """Say which op of mmcv the configuration needs and is not here, if that is what an error comes from."""
    while error is not None:
        op = getattr(error, 'mmcv_op', None)
        if op:
            return no_stand_in(op, CONFIG.get())
        error = error.__cause__ or error.__context__
    return None


def handed_over(error: BaseException) -> str | None:
    """Name the configured part at work when an error arose in a running session, if there is one.

    That is a data loader, a metric or a hook of another library; with code of this package in between it is not.
    """
    if isinstance(error, (InputError, NonFiniteError, MemoryError)) or str(error).startswith('DataLoader worker'):
        return None
    found = None
    for frame in traceback.extract_tb(error.__traceback__):
        place = next((end for end in HANDED_OVER if frame.filename.endswith(end)), None)
        if place and not (place.endswith('runner.py') and frame.name != 'call_hook'):
            found = HANDED_OVER[place]
        elif PACKAGE in Path(frame.filename).parents:
            found = None
    return found[0] if found and isinstance(error, found[1]) else None


def deliver_interrupts() -> None:
    """Deliver Ctrl-C again where Python dropped it, as it does inside a destructor (of a data loader, say)."""
    before = sys.unraisablehook

    def again(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            threading.Timer(0.2, _thread.interrupt_main).start()
        else:
            before(unraisable)

    sys.unraisablehook = again


@contextlib.contextmanager
def quiet_log_faults(note: Callable[[str], None]) -> Iterator[None]:
    """Say once that a log cannot be written (the disk is full), without the traceback that each line brings.

    Args:
        note: Tells the user something.
    """
    before, told = logging.Handler.handleError, set()

    def tell(handler: logging.Handler, record: logging.LogRecord) -> None:
        error, path = sys.exc_info()[1], getattr(handler, 'baseFilename', None)
        if path and isinstance(error, OSError) and path not in told:
            told.add(path)
            note(f'warning: the log {path} cannot be written: {error.strerror or error}')

    logging.Handler.handleError = tell
    try:
        yield
    finally:
        logging.Handler.handleError = before
