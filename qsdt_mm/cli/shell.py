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

import _thread
import argparse
import contextlib
import copy
import importlib
import logging
import os
import pickle
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from qsdt_mm.compat.noise import quiet_imports, quiet_logger, warnings_only, without_noise
from qsdt_mm.engine.launch import is_main_process
from qsdt_mm.errors import PACKAGE, InputError, NonFiniteError, disk_fault, is_own_fault, require
from qsdt_mm.fileio.checkpoint import force_safe_loading, refusal

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


OUTPUTS = {'json', 'out', 'save_path'}  # arguments that name a file to write


def _same_file(a: str, b: str) -> bool:
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):  # one is not there yet, or no path at all
        return os.path.abspath(a) == os.path.abspath(b) and bool(os.path.splitext(a)[1])


class ToolParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the option ``--traceback`` that all tools have.

    Args:
        prog: the tool's name.
        description: what it does, usually the module's docstring.
        examples: commands to show at the end of the help, and what else belongs there.
    """

    def __init__(self, prog: str, description: str | None, examples: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument('--traceback', action='store_true', help='show where an error arose (or QSDT_TRACEBACK=1)')

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Read the command line; a file to write must not be one of those to read, or the other file to write."""
        parsed = super().parse_args(args, namespace)
        named = {key: value if isinstance(value, list) else [value] for key, value in vars(parsed).items()}
        files = {key: [str(v) for v in values if isinstance(v, (str, Path))] for key, values in named.items()}
        for output in sorted(OUTPUTS & files.keys()):
            for other in sorted(files.keys() - {output, 'cfg_options'}):
                for path in files[output]:
                    if any(_same_file(path, value) for value in files[other]):
                        words = [f'--{key.replace("_", "-")}' if key in OUTPUTS else key for key in (output, other)]
                        self.error(f'{words[0]} {path} is {words[1]} too, and would take its place')
        return parsed

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave."""
        self.exit(2, f'{self.prog}: error: {message}\n')

    def add_require_spikes(self) -> None:
        """Add ``--require-spikes``."""
        self.add_argument(
            '--require-spikes',
            action='store_true',
            help='refuse a network with layers outside spiking units, which compute with floats',
        )

    def add_cfg_options(self, example: str) -> None:
        """Add OpenMMLab's ``--cfg-options``."""
        self.add_argument(
            '--cfg-options',
            nargs='+',
            action='extend',
            metavar='KEY=VALUE',
            help=f'change the configuration, e.g. {example}; lists as key="[a,b]"',
        )

    def add_launcher(self) -> None:
        """Add OpenMMLab's ``--launcher`` and what ``torch.distributed`` passes along."""
        self.add_argument(
            '--launcher',
            choices=['none', 'pytorch', 'slurm', 'mpi'],
            default='none',
            help='how the processes were started',
        )
        self.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


class Session:
    """What a tool tells its shell while it works."""

    def __init__(self, prog: str, files: Sequence[str] = ()) -> None:
        self.prog = prog
        self.files = files  # whose faults are ours, besides the package's
        self.started = False
        self.signal = signal.SIGINT

    def begin(self) -> None:
        """Set-up is over: an error from here on is no longer the input's fault."""
        self.started = True

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
            raise InputError(f'{what}: {describe(error)}') from error

    @contextlib.contextmanager
    def setting_up(self) -> Iterator[None]:
        """As :meth:`stage`, of what a runner does by itself before it calls :meth:`begin`."""
        try:
            yield
        except Exception as error:
            if self.started:
                raise
            with self.stage('setting up the run'):
                raise error

    def note(self, message: str) -> None:
        """Tell the user something, once however many processes there are."""
        if is_main_process():
            print(f'{self.prog}: {message}', file=sys.stderr, flush=True)


def describe(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f'{error.filename}: {error.strerror}'
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


def handed_over(error: BaseException) -> str | None:
    """What was at work when an error arose in a running session, if it is one that the configuration names.

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


@contextlib.contextmanager
def quiet_log_faults() -> Iterator[None]:
    """A log that cannot be written (the disk is full) is no reason for a traceback with each line."""
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    finally:
        logging.raiseExceptions = before


def run_tool(prog: str, body: Callable[[Session], Any], show_traceback: bool = False) -> int:
    """Run a tool's work and turn what goes wrong into a line and an exit status.

    Args:
        prog: The tool's name, which begins every line.
        body: The work; it calls :meth:`Session.begin` when set-up is over.
        show_traceback: Show the traceback too; the environment variable ``QSDT_TRACEBACK=1`` does the same.

    Returns:
        The exit status.
    """
    session = Session(prog, [body.__code__.co_filename] if hasattr(body, '__code__') else [])
    show_traceback = show_traceback or os.environ.get('QSDT_TRACEBACK', '') not in ('', '0')
    hook_before = sys.unraisablehook
    deliver_interrupts()
    try:
        with force_safe_loading(), warnings.catch_warnings(), catch_termination(session), quiet_log_faults():
            quiet_imports()
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
        if handed:
            error = InputError(f'{handed}: {describe(error)}').with_traceback(error.__traceback__)
        listed = isinstance(error, (NonFiniteError, InputError)) or disk_fault(error) is not None
        own = is_own_fault(error, session.files)
        known = listed or not (session.started or own)
        if show_traceback or not known:
            traceback.print_exc()
        if known:
            session.note(f'error: {describe(error)}')
        return 1 if (session.started or own) and not isinstance(error, InputError) else 2


def load_config(path: str, options: Sequence[str] | None = None) -> Any:
    """Read a configuration and apply ``--cfg-options`` after checking them.

    Args:
        path: The file.
        options: The options, each ``key=value``.

    Returns:
        The mmengine ``Config``.

    Raises:
        InputError: The file does not exist or does not parse, an option means nothing, or a data loader or its data
            set is no dict.
    """
    from mmengine.config import Config

    from qsdt_mm.engine import hooks  # noqa: F401  registers, for configurations that do not import this package

    from .cfg_options import check_cfg_options, settle_hooks
    from .config_types import tuples_where_wanted

    if not Path(path).is_file():
        raise InputError(f'config {path} does not exist')
    try:
        cfg = Config.fromfile(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f'config {path} cannot be read: {describe(error)}') from error
    parsed = parse_options(options)
    check_cfg_options(cfg, parsed)
    before = copy.deepcopy(cfg._cfg_dict) if parsed else None
    if parsed:
        cfg.merge_from_dict(parsed)
    tuples_where_wanted(cfg._cfg_dict, cfg.get('default_scope'), before)
    settle_hooks(cfg)
    for name in LOADERS:
        loader = cfg.get(name)
        if loader is not None:
            require(isinstance(loader, dict), name, loader, 'a dict', InputError)
            dataset = loader.get('dataset', {})
            require(isinstance(dataset, dict), f'{name}.dataset', dataset, 'a dict', InputError)
    return cfg


def parse_options(options: Sequence[str] | None) -> dict[str, Any]:
    """Turn ``key=value`` words into values, as mmengine does.

    Raises:
        InputError: A word has no ``=``, or a value's brackets do not match.
    """
    from mmengine.config import DictAction

    if not options:
        return {}
    for word in options:
        if not re.match(r'[^=\s]+=', word):
            raise InputError(f'--cfg-options takes key=value, got {word!r}')
    parser = argparse.ArgumentParser(prefix_chars='\0')
    parser.add_argument('options', nargs='+', action=DictAction)
    try:
        return parser.parse_args(list(options)).options
    except (AssertionError, ValueError) as error:
        raise InputError(f'--cfg-options: {describe(error)}') from error


def default_loaders(cfg: Any) -> None:
    """Give mmpretrain's data loaders the defaults that mmpretrain's own tools give them, in place."""
    if cfg.get('default_scope') != 'mmpretrain':
        return
    import torch

    for name in LOADERS:
        if cfg.get(name) is not None:
            cfg[name].setdefault('collate_fn', dict(type='default_collate'))
            cfg[name].setdefault('pin_memory', torch.cuda.is_available())


def import_library(cfg: Any) -> None:
    """Import the parts of the configuration's library now, while what it says at import is kept back."""
    scope = cfg.get('default_scope')
    if scope in ('mmpretrain', 'mmdet', 'mmseg'):
        with without_noise():
            for part in ('models', 'datasets', 'evaluation', 'engine'):
                with contextlib.suppress(ImportError):  # whatever is missing is reported when it is needed
                    importlib.import_module(f'{scope}.{part}')


def of_root(loader: Any) -> str:
    """Where a loader's data are, as an addition to a message; empty if its configuration does not say."""
    dataset = loader.get('dataset') if hasattr(loader, 'get') else None
    root = dataset.get('data_root') if hasattr(dataset, 'get') else None
    return f' in {root}' if root else ''


def set_work_dir(cfg: Any, config_path: str, work_dir: str | None) -> Path:
    """Settle the work directory: the option's, the configuration's, or ``work_dirs/<name of the config>``."""
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(config_path).stem)
    return Path(cfg.work_dir)


def build_runner(cfg: Any) -> Any:
    """Build the runner: ours, or the configuration's ``runner_type``."""
    from mmengine.hooks import Hook
    from mmengine.registry import RUNNERS

    from qsdt_mm.engine.hooks import LabelRangeHook
    from qsdt_mm.engine.runner import SafeRunner
    from qsdt_mm.fileio.checkpoint import drop_code
    from qsdt_mm.fileio.own_files import cut_links

    if 'runner_type' not in cfg:
        runner = SafeRunner.from_cfg(cfg)
    else:

        class DropCodeHook(Hook):
            def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
                drop_code(checkpoint)

        cut_links(Path(cfg.work_dir) / Path(cfg.filename or '').name)  # mmengine writes it in place, and at once
        runner = RUNNERS.build(cfg)
        runner.register_hook(DropCodeHook(), priority='HIGHEST')
    runner.register_hook(LabelRangeHook())
    quiet_logger(runner.logger)
    return runner


def build_model(cfg: Any, checkpoint: str | None, session: Session) -> Any:
    """The configuration's model in evaluation mode, with the weights of a checkpoint if one is given.

    To be called under the configuration's default scope.

    Raises:
        InputError: The model cannot be built, or the checkpoint cannot be loaded or does not fit it.
    """
    from mmengine.logging import MMLogger
    from mmengine.registry import MODELS

    from qsdt_mm.errors import CheckpointError
    from qsdt_mm.fileio.checkpoint import check_pretrained, load_checkpoint_safely, load_weights, model_weights

    settings = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:  # as mmengine's runner does
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    with session.stage('building the model'):
        model = MODELS.build(settings)
    if checkpoint is None:
        if hasattr(model, 'init_weights'):
            check_pretrained(model)
            with warnings_only(MMLogger.get_current_instance()):
                model.init_weights()
        return model.eval()
    mismatch = load_weights(model, model_weights(load_checkpoint_safely(checkpoint), checkpoint))
    if mismatch:
        raise CheckpointError(f'{checkpoint} does not fit the model: weights {mismatch}')
    return model.eval()
