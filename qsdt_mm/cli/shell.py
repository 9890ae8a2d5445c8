"""The shell that the tools share: one clear line and an exit status, rather than a traceback.

====== =============================================================================================
status meaning
====== =============================================================================================
0      done
1      stopped: one line if it met values that are not finite or a disk that takes no more, otherwise a
       traceback; also a fault of this package at any time, with a traceback
2      bad input (configuration, checkpoint, data), or an error before the run began: one line
130    interrupted (Ctrl-C)
143    terminated (SIGTERM)
====== =============================================================================================
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qsdt_mm.errors import InputError, InputWarning, NonFiniteError, disk_fault, is_own_fault, one_line, temporary_fault


class Session:
    """Progress of a tool, as its shell sees it.

    >>> session = Session('train.py')
    >>> with session.stage('reading the labels'):
    ...     int('seven')
    Traceback (most recent call last):
        ...
    qsdt_mm.errors.InputError: reading the labels: ValueError: invalid literal for int() with base 10: 'seven'
    """

    def __init__(self, prog: str, files: Sequence[str] = ()) -> None:
        self.prog = prog
        self.files = files  # whose faults are ours, besides the package's
        self.started = False
        self.signal = signal.SIGINT
        self.kept = contextlib.ExitStack()

    def begin(self) -> None:
        """End the set-up: an error from here on is no longer the input's fault."""
        self.started = True

    def keep(self, context: contextlib.AbstractContextManager) -> None:
        """Enter a context that the end of the tool leaves."""
        self.kept.enter_context(context)

    @contextlib.contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """Name a part of the set-up, so that an error that arises in it says where it belongs.

        Raises:
            InputError: In place of any other error, a fault of this package excepted.
        """
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            if is_own_fault(error, self.files) or disk_fault(error):
                raise
            raise InputError(f'{what}: {one_line(error)}') from error

    @contextlib.contextmanager
    def setting_up(self) -> Iterator[None]:
        """Name a set-up that a runner does by itself before it calls :meth:`begin`, as :meth:`stage` does."""
        try:
            yield
        except Exception as error:
            if self.started:
                raise
            with self.stage('setting up the run'):
                raise error

    def note(self, message: str) -> None:
        """Tell the user something, once however many processes there are."""
        from qsdt_mm.engine.launch import is_main_process

        if is_main_process():
            print(f'{self.prog}: {message}', file=sys.stderr, flush=True)


def show_remarks(session: Session) -> None:
    """Have warnings about input shown as a line of the tool, until ``warnings.catch_warnings`` puts that back."""
    before = warnings.showwarning

    def show(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if issubclass(category, InputWarning):
            session.note(f'warning: {message}')
        else:
            before(message, category, *args, **kwargs)

    warnings.showwarning = show
    warnings.simplefilter('always', InputWarning)


@contextlib.contextmanager
def catch_termination(session: Session) -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what is half-done is cleaned up; in the main thread only."""
    own, before = os.getpid(), None

    def stop(number: int, frame: Any) -> None:
        if os.getpid() != own:  # a worker that has not set handlers of its own yet
            os._exit(128 + number)
        signal.signal(number, signal.SIG_IGN)  # once is enough; what does not end is killed
        session.signal = signal.SIGTERM
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def run_tool(prog: str, body: Callable[[Session], Any], show_traceback: bool = False) -> int:
    """Run a tool's work and turn what goes wrong into a line and an exit status.

    Args:
        prog: The tool's name, which begins every line.
        body: The work; it calls :meth:`Session.begin` when set-up is over.
        show_traceback: Show the traceback too; the environment variable ``QSDT_TRACEBACK=1`` does the same.

    Returns:
        The exit status.
    """
    from qsdt_mm.compat.noise import quiet_imports
    from qsdt_mm.fileio.checkpoint import force_safe_loading

    from .faults import CONFIG, deliver_interrupts, handed_over, missing_op, quiet_log_faults

    session = Session(prog, [body.__code__.co_filename] if hasattr(body, '__code__') else [])
    show_traceback = show_traceback or os.environ.get('QSDT_TRACEBACK', '') not in ('', '0')
    hook_before, config_before = sys.unraisablehook, CONFIG.set('')
    deliver_interrupts()
    try:
        with (
            force_safe_loading(),
            warnings.catch_warnings(),
            catch_termination(session),
            quiet_log_faults(session.note),
        ):
            quiet_imports()
            show_remarks(session)
            with session.kept:
                status = body(session)
        sys.unraisablehook = hook_before
        return int(status or 0)
    except KeyboardInterrupt:
        sys.unraisablehook = lambda unraisable: None  # half-made data loaders complain as they are dropped
        session.note('interrupted' if session.signal == signal.SIGINT else 'terminated')
        return 128 + session.signal
    except SystemExit:
        raise
    except BaseException as error:
        sys.unraisablehook = hook_before
        if not isinstance(error, InputError):
            error = disk_fault(error) or error
        handed = handed_over(error) if session.started else None
        missing = missing_op(error)
        if missing or handed:
            error = InputError(missing or f'{handed}: {one_line(error)}').with_traceback(error.__traceback__)
        at_fault = disk_fault(error) is not None or temporary_fault(error) is not None
        listed = isinstance(error, (NonFiniteError, InputError)) or at_fault
        own = is_own_fault(error, session.files)
        known = listed or not (session.started or own)
        if show_traceback or not known:
            traceback.print_exc()
        if known:
            session.note(f'error: {one_line(error)}')
        return 1 if (session.started or own) and not isinstance(error, InputError) else 2
    finally:
        CONFIG.reset(config_before)
