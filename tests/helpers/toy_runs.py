"""Runs of the tools on the toy configuration, in this process or in one of their own."""

import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch
from copies import Copy
from mmengine.visualization import Visualizer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CONFIG = HERE / 'toy_config.py'


WITHOUT_RESEED = """
default_hooks = dict(_delete_=True, checkpoint=dict(type='SafeCheckpointHook', interval=1))
"""
RUNS = itertools.count()


class Evil:
    """Makes a directory when unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def kinds_of(parent):
    """A class and all below it."""
    return {parent}.union(*(kinds_of(child) for child in parent.__subclasses__()))


def tool(name):
    """The module of a tool, as in a new process: the visualizer of a run of the same second is forgotten."""
    for kind in kinds_of(Visualizer):
        kind._instance_dict.clear()
    path = ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(**changes):
    """``--cfg-options`` words; a double underscore stands for a dot."""
    changes.setdefault('experiment_name', f'toy{os.getpid()}_{next(RUNS)}')  # runs of one second share it otherwise
    return ['--cfg-options', *(f'{key.replace("__", ".")}={value}' for key, value in changes.items())]


def variant(path, text):
    """A configuration that changes the toy one."""
    path.write_text(f'_base_ = {str(CONFIG)!r}\n{text}\n')
    return path


def train(work_dir, *words, config=CONFIG, **changes):
    """Run tools/train.py in this process and return its exit status."""
    return tool('train').main([str(config), '--work-dir', str(work_dir), *map(str, words), *options(**changes)])


def finished(tmp_path_factory, epochs):
    """The work directory of a run of so many epochs that has come to its end."""
    work_dir = tmp_path_factory.mktemp('finished') / 'run'
    assert train(work_dir, train_cfg__max_epochs=epochs, train_dataloader__num_workers=0) == 0
    return work_dir


def evaluate(checkpoint, work_dir, *words, config=CONFIG, **changes):
    """Run tools/test.py in this process and return its exit status."""
    return tool('test').main(
        [str(config), str(checkpoint), '--work-dir', str(work_dir), *map(str, words), *options(**changes)]
    )


def start(command, **environment):
    """Start a command in a process group of its own, where Ctrl-C works even if this process was told to ignore it."""
    env = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'PYTHONPATH': os.pathsep.join([str(ROOT), str(HERE)]),
        'PYTHON': sys.executable,
        **environment,
    }
    return subprocess.Popen(
        [str(word) for word in command],
        env=env,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def free_port():
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def start_train(work_dir, *words, **changes):
    """Start tools/train.py in a process of its own."""
    return start([sys.executable, ROOT / 'tools/train.py', CONFIG, '--work-dir', work_dir, *words, *options(**changes)])


def copied_train(work_dir, *words, config=CONFIG, **changes):
    """tools/train.py in a copy of this process, where that works: CUDA does not outlive the copying."""
    words = [config, '--work-dir', work_dir, *words, *options(**changes)]
    if torch.cuda.is_available():
        return start([sys.executable, ROOT / 'tools/train.py', *words])
    return Copy(lambda: tool('train').main([str(word) for word in words]))


def state(path):
    """What a checkpoint holds."""
    from qsdt_mm.fileio.checkpoint import load_checkpoint_safely

    return load_checkpoint_safely(path)


def differences(a, b, where=''):
    """The places where two nested values differ, bit for bit."""
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
        return [] if same else [where]
    if isinstance(a, dict):
        if not isinstance(b, dict) or a.keys() != b.keys():
            return [where]
        return [place for key in a for place in differences(a[key], b[key], f'{where}.{key}')]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [where]
        return [p for i, pair in enumerate(zip(a, b, strict=True)) for p in differences(*pair, f'{where}[{i}]')]
    return [] if a == b else [where]


def training_differences(a, b):
    """How two checkpoints differ in what decides the training from there on."""
    first, second = state(a), state(b)
    parts = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
    assert all(part in first for part in parts)
    return [place for part in parts for place in differences(first[part], second.get(part), part)]


def copy_start(source, target, name):
    """Put one checkpoint of a run into a new work directory, as if the run had been killed after it."""
    target.mkdir()
    shutil.copy(source / name, target / name)
    (target / 'last_checkpoint').write_text(str(target / name))


def our_lines(text, prog='train.py'):
    """The error lines of a tool in what it wrote to stderr."""
    assert 'Traceback' not in text, text
    return [line for line in text.splitlines() if line.startswith(f'{prog}: error:')]


@contextlib.contextmanager
def time_limit(seconds):
    """What hangs, fails."""

    def late(number, frame):
        raise AssertionError(f'still running after {seconds} s')

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def files(folder):
    """What the files below a folder hold, by path."""
    return {str(path): path.read_bytes() for path in folder.rglob('*') if path.is_file()}
